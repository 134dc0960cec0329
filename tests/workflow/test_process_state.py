"""What runs change in the process as a whole, and put back."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from asi.harness import mpirun
from preloaded.launch import preloaded
from run_folder import TIMEOUT_S, python_path, write_inputs

pytestmark = [pytest.mark.mpi, pytest.mark.real]

SCRIPTS = Path(__file__).parent / "scripts"
# How each case ends on rank 0, and with which code the other ranks leave.
CASES = {
    "wrong_input": ("SettingsError", "ServedToTheEnd: 2"),
    "interrupted": ("SystemExit: 3", "ServedToTheEnd: 3"),
    "stopped": ("SystemExit: 3", "ServedToTheEnd: 3"),
    "store_lost": ("FileNotFoundError", "ServedToTheEnd: 1"),
    "users_error": ("UsersError: within the block", "ServedToTheEnd: 1"),
    "done": ("done", "ServedToTheEnd: 0"),
    "ctrl_c_outside": ("KeyboardInterrupt", "KeyboardInterrupt"),
}


def found_by(script: str, ranks: int, tmp_path: Path, *words: str, ours: bool = True) -> list[Any]:
    """What each rank of a script reports, in the order of the ranks.

    Forked ranks: the libraries are the same for both sides of each comparison.
    """
    program = preloaded(str(SCRIPTS / script), mace=True, ours=ours)
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": python_path()}
    environment.pop("OMP_NUM_THREADS", None)
    done = subprocess.run(
        [mpirun(), "-n", str(ranks), *program, *words],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    return [content for _, content in sorted(json.loads(line[7:]) for line in lines)]


@pytest.mark.parametrize(
    ("ranks", "models", "settings"),
    # Where labels are elsewhere, the models are where they are alone: MACE's are shown there.
    [(1, "mace", {}), (2, "pair", {"parallel": True}), (2, "mace", {"training_ranks": 2})],
    ids=["alone", "labels elsewhere", "training elsewhere"],
)
def test_open_run_leaves_the_process_as_it_was(
    tmp_path: Path, ranks: int, models: str, settings: dict[str, Any]
) -> None:
    smallest = {"num_interactions": 1, "num_channels": 2, "radial_MLP": [4]}
    small = {"ARCHITECTURE": smallest} if models == "mace" else {}
    folder = write_inputs(
        tmp_path / "run",
        models=models,
        mace={"GENERAL": {"default_dtype": "float32"}, "MISC": {"num_threads": 1}, **small},
        active_learning={
            "ACTIVE_LEARNING": {
                "n_samples": 2,
                "max_initial_epochs": 2,
                "intermediate_epochs": 1,
                **settings,
            }
        },
    )
    found = found_by("open_run_state.py", ranks, tmp_path, str(folder), *CASES)
    assert len(found) == ranks
    for rank, (unsteady, cases) in enumerate(found):
        assert unsteady == []
        assert list(cases) == list(CASES)
        for case, (ended, changed) in cases.items():
            assert ended.startswith(CASES[case][min(rank, 1)]), (rank, case)
            assert changed == [], (rank, case)
    assert (folder / "model").is_dir()


def test_to_import_our_modules_changes_nothing(tmp_path: Path) -> None:
    """Beyond what the libraries change that they import."""
    (modules,) = found_by("imports_state.py", 1, tmp_path, ours=False)
    assert {"torch", "mace", "ase", "mpi4py"} <= set(modules)
    ((unsteady, changed),) = found_by("imports_state.py", 1, tmp_path, *modules, ours=False)
    assert unsteady == []
    assert changed == []
