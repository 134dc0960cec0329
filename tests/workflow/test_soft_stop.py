"""Asked to stop, a run finishes its step, exits with 3 and goes on as if nothing had been."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_folder import (
    datasets,
    finish,
    labels,
    ranks_of,
    run,
    start,
    succeed,
    wait_for_labels,
    write_inputs,
)

pytestmark = [pytest.mark.mpi, pytest.mark.real]

Job = subprocess.Popen[str]


def sigterm_to_mpirun(job: Job, folder: Path) -> None:
    os.kill(job.pid, signal.SIGTERM)


def sigusr1_to_every_rank(job: Job, folder: Path) -> None:
    # As Slurm's --signal does.
    for rank in ranks_of(folder):
        os.kill(rank, signal.SIGUSR1)


def stop_file(job: Job, folder: Path) -> None:
    (folder / "STOP").touch()


def newest_state(folder: Path) -> dict[str, Any]:
    newest = max((folder / "restart").glob("snapshot-*"))
    state: dict[str, Any] = json.loads((newest / "run.json").read_text())["state"]
    return state


@pytest.mark.parametrize(
    ("ask", "n_labels"),
    [(sigterm_to_mpirun, 30), (sigusr1_to_every_rank, 83), (stop_file, 84)],
)
def test_a_stopped_run_goes_on_as_the_unbroken_one(
    finished_run, tmp_path, ask: Callable[[Job, Path], None], n_labels: int
) -> None:
    unbroken = finished_run("tblite", 1)
    # No snapshot is due: the stop itself writes one, of the step it interrupted or finished.
    folder = write_inputs(tmp_path / "run", active_learning={"MISC": {"snapshot_interval": 1000.0}})
    # How mpirun hands a signal on is shown with ranks that are its own.
    job = start(folder, 2, preload=ask is not sigterm_to_mpirun)
    wait_for_labels(job, folder, n_labels)
    ask(job, folder)
    code, output = finish(job, timeout_s=60)
    assert code == 3, output
    assert "run the same command again to continue" in output
    assert "Traceback" not in output
    assert not (folder / "STOP").exists()
    state = newest_state(folder)
    if n_labels < 81:
        (trajectory,) = state["sampling"]["trajectories"]
        assert trajectory["step"] >= 4 * (n_labels // 4 - 1)
        # Labels of a block that was undone are in the store, but not among those that were given.
        assert len(state["given"]) == 1 + trajectory["step"]
    else:
        # One label, of geometry.in, comes before the first MD step; sweeps have checked the rest.
        assert state["active"]["sweep"] >= 1
    assert not (folder / "data" / "final").exists()
    succeed(folder, 1)
    assert datasets(folder) == datasets(unbroken)
    stores = [(f / "restart" / "labels.jsonl").read_bytes() for f in (folder, unbroken)]
    assert stores[0] == stores[1]


def test_the_walltime_limit_stops_a_run_that_always_gets_further(asi_library, tmp_path) -> None:
    folder = write_inputs(
        tmp_path / "run",
        asi_library=asi_library,
        active_learning={"MISC": {"walltime_limit": 0.01}},
    )
    code, output = run(folder, 2)
    assert code == 3, output
    assert "walltime_limit = 0.01 s" in output
    assert not (folder / "restart" / "labels.jsonl").read_bytes()
    text = (folder / "active_learning_settings.yaml").read_text()
    (folder / "active_learning_settings.yaml").write_text(text.replace("0.01\n", "8\n"))
    # 81 labels would take 40 s.
    code, output = run(folder, 2, env={"ASI_SLEEP_MS": "500"})
    assert code == 3, output
    assert 0 < len(labels(folder)) < 81  # it got further, not to the end of the first phase


def test_points_that_were_paid_for_are_trained_on_under_a_lowered_limit(tmp_path) -> None:
    folder = write_inputs(tmp_path / "run")
    job = start(folder, 1, command="FHI_AL-initial-ds")
    wait_for_labels(job, folder, 60)  # in the midst of the second of two rounds
    stop_file(job, folder)
    code, output = finish(job)
    assert code == 3, output
    assert newest_state(folder)["sampling"]["points"]
    settings = folder / "active_learning_settings.yaml"
    lowered = settings.read_text().replace("max_initial_epochs: 10", "max_initial_epochs: 5")
    settings.write_text(lowered)
    output = succeed(folder, 1, command="FHI_AL-initial-ds")
    assert "max_initial_epochs: 10 -> 5" in output
    sampling = newest_state(folder)["sampling"]
    assert sampling["points"] == [] and sampling["epochs"] == 6
    assert len(labels(folder)) == 81
