"""status.json of real runs: finished, killed, stopped, failed."""

from __future__ import annotations

import time

import pytest
from run_folder import copy_of, killed_status, run

from fhi_al.report.status_file import look_at

pytestmark = pytest.mark.mpi


def test_a_finished_run_says_what_it_came_to(finished_run) -> None:
    seen = look_at(finished_run("tblite", 1), time.time())
    assert seen.condition == "finished"
    assert seen.message == "all trajectories have done max_MD_steps"
    content = seen.content
    assert content["stage"] == "done" and content["time_left_s"] == 0.0
    assert content["labels"]["computed"] == 90
    assert content["ranks"][0]["does"] == "drives, MD, training, labels"
    assert 0 < content["force_mae"] < 1


def test_a_killed_run_is_told_from_one_that_goes_on(killed_run) -> None:
    seen = killed_status(killed_run)
    assert seen.condition == "killed"
    assert "is gone" in seen.message
    assert seen.content["stage"] in ("initial sampling", "active learning")


def test_a_run_that_is_stopped_says_so(killed_run, tmp_path) -> None:
    folder = copy_of(killed_run, tmp_path / "run")
    (folder / "STOP").touch()
    code, output = run(folder, 1)
    assert code == 3, output
    seen = look_at(folder, time.time())
    assert (seen.condition, seen.message) == (
        "stopped",
        "the file STOP; the same command continues",
    )
    assert seen.content["stage"] == "active learning"
    # Nothing of a run depends on it.
    (folder / "status.json").write_text("{")
    (folder / "STOP").touch()
    code, output = run(folder, 1)
    assert code == 3, output
    assert look_at(folder, time.time()).condition == "stopped"
