"""FHI_AL-evaluate --on md: labels of an independent MD, each computed once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import yaml
from foundation.small_foundation import SmallFoundation
from run_folder import WATER, copy_of, kill_all, killed_status, run, start, succeed, wait_until
from tblite.ase import TBLite

from fhi_al.report.status_file import look_at

pytestmark = [pytest.mark.mpi, pytest.mark.real]

COMMAND = "FHI_AL-evaluate"
# 0.5 fs each: 10 steps before the first structure, 5 from one to the next, and the start.
MD = ("--on", "md", "--structures", "20", "--spacing", "2.5", "--equilibration", "5")
N_CALCULATIONS = 10 + 20 * 5 + 1


def store(folder: Path) -> list[dict[str, Any]]:
    path = folder / "evaluation" / "labels.jsonl"
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [json.loads(line)["label"] for line in lines]


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "evaluation" / "evaluation.json").read_text())
    return found


def test_a_killed_evaluation_goes_on_and_its_labels_serve_again(
    finished_run: Callable[..., Path], tmp_path: Path
) -> None:
    folder = copy_of(finished_run("tblite", 1), tmp_path / "run")
    job = start(folder, 1, *MD, command=COMMAND)
    wait_until(job, lambda: len(store(folder)) >= 20, "20 labels")
    kill_all(job)
    assert 20 <= len(store(folder)) < N_CALCULATIONS
    assert killed_status(folder / "evaluation").condition == "killed"
    output = succeed(folder, 1, *MD, command=COMMAND)
    assert f"at most {N_CALCULATIONS} calculations of the engine" in output
    seen = look_at(folder / "evaluation", time.time())
    assert seen.condition == "finished" and seen.content["stage"] == "errors"
    assert seen.content["labels"]["computed"] == N_CALCULATIONS
    keys = [one["key"] for one in store(folder)]
    assert len(set(keys)) == len(keys) == N_CALCULATIONS
    frames = ase.io.read(folder / "evaluation" / "md.xyz", ":")
    assert len(frames) == 20
    for atoms in frames[::7]:
        own = atoms.copy()
        own.calc = TBLite(method="GFN2-xTB", verbosity=0)
        # eV and eV/A; extended xyz holds eight decimals.
        assert atoms.info["REF_energy"] == pytest.approx(own.get_potential_energy(), abs=1e-6)
        np.testing.assert_allclose(atoms.arrays["REF_forces"], own.get_forces(), atol=1e-6)
    errors = results(folder)["errors"]
    assert len(errors) == 3  # two members and their mean
    # A launch that nothing broke comes to the same structures.
    whole = copy_of(finished_run("tblite", 1), tmp_path / "whole")
    succeed(whole, 2, *MD, command=COMMAND)
    for name in ("md.xyz", "md.json"):
        assert (whole / "evaluation" / name).read_bytes() == (
            folder / "evaluation" / name
        ).read_bytes()
    # One model, on the same structures, without a calculation.
    (model, _) = sorted((folder / "model").glob("*.model"))
    output = succeed(folder, 1, str(model), *MD, "--json", command=COMMAND)
    assert json.loads(output)["errors"] == {model.name: errors[model.name]}
    assert len(store(folder)) == N_CALCULATIONS


def test_more_calculations_than_allowed_are_not_begun(
    finished_run: Callable[..., Path], tmp_path: Path
) -> None:
    folder = copy_of(finished_run("tblite", 1), tmp_path / "run")
    code, output = run(folder, 1, *MD, "--most-calculations", "50", command=COMMAND)
    assert code == 2
    assert f"would take {N_CALCULATIONS} calculations of the engine" in output
    assert not (folder / "evaluation").exists()


def test_a_check_refuses_the_ranks_that_the_launch_refuses(
    small_foundation: SmallFoundation, tmp_path: Path
) -> None:
    keys = {"reference_engine": "tblite", "parallel": True, "reference_groups": 4}
    content = yaml.safe_dump({"ACTIVE_LEARNING": keys})
    (tmp_path / "active_learning_settings.yaml").write_text(content)
    (tmp_path / "geometry.in").write_text(WATER)
    asked = (str(small_foundation.weights), *MD, "--check")
    code, output = run(tmp_path, 3, *asked, command=COMMAND)
    assert code == 2, output
    assert "ACTIVE_LEARNING.reference_groups = 4" in output
    assert "Traceback" not in output


def test_a_folder_that_is_no_runs_says_so(tmp_path: Path) -> None:
    code, output = run(tmp_path, 1, "--on", "md", command=COMMAND)
    assert code == 2
    assert f"{tmp_path / 'model'}: no models (*.model)" in output
