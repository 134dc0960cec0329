"""Whole runs whose steps, forces and energies are recorded, as a GPU does, and run again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from foundation.small_foundation import SmallFoundation
from run_folder import labels, python_path
from test_from_a_foundation_model import BUDGET, REPLAY, folder_of

pytestmark = pytest.mark.real

PROGRAM = """
from fhi_al.models import cuda_graphs, torch_backend
from fhi_al.models.recorders import PlainRecorder

made = []

def recordings_on(device, wanted):
    made.append(cuda_graphs.Recordings(PlainRecorder()))
    return made[-1]

torch_backend.recordings_on = recordings_on

from fhi_al.cli import main

code = main()
print("recorded:", sum(one.n_recorded for one in made))
raise SystemExit(code)
"""


@pytest.mark.parametrize("training", [REPLAY, {"fine_tuning": "lora", "lr": 1e-3}])
def test_two_systems_with_stress_from_a_foundation_model(
    training: dict[str, Any], small_foundation: SmallFoundation, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path / "run", small_foundation.weights, training)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "--workdir", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={"PYTHONPATH": python_path(), "OMP_NUM_THREADS": "1", "PATH": ""},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "CUDA graphs are not used" not in done.stdout + done.stderr
    assert len(labels(folder)) == BUDGET
    assert len(list((folder / "model").glob("*.model"))) == 2
    assert int(done.stdout.rpartition("recorded: ")[2]) > 10
