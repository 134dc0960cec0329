"""Finished runs, shared by the tests that only look at them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from asi.harness import asi_library  # noqa: F401 (a fixture)
from filelock import FileLock
from run_folder import (
    LONG,
    kill_all,
    killed_status,
    snapshots,
    start,
    succeed,
    wait_for_a_training_round,
    write_inputs,
)

FinishedRun = Callable[..., Path]


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of pytest-xdist share."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    runs = folder / "runs"
    runs.mkdir(exist_ok=True)
    return runs


@pytest.fixture(scope="session")
def finished_run(
    tmp_path_factory: pytest.TempPathFactory,
    asi_library: Path,  # noqa: F811
) -> FinishedRun:
    """Folder of a finished run by engine ("tblite" or "asi"), ranks, length and kind of models.

    Ranks that would have nothing to do train.

    The processes of pytest-xdist share the runs: the first that needs one makes it.
    """
    folder = shared_folder(tmp_path_factory)

    def get(engine: str, ranks: int, *, long: bool = False, models: str = "pair") -> Path:
        run = folder / f"{engine}_{ranks}_{models}{'_long' * long}"
        output = run / "output.txt"
        with FileLock(f"{run}.lock"):
            if not output.exists():
                library = asi_library if engine == "asi" else None
                changes = {"training_ranks": "auto", **(LONG if long else {})}
                write_inputs(
                    run,
                    asi_library=library,
                    active_learning={"ACTIVE_LEARNING": changes, "MISC": {"report": True}},
                    models=models,
                )
                output.write_text(succeed(run, ranks))
        return run

    return get


@pytest.fixture(scope="session")
def killed_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run (tblite) that was killed in active learning, after its first training round.

    For tests that continue a copy of it; it ends as ``finished_run("tblite", 1)``.
    """
    run = shared_folder(tmp_path_factory) / "killed"
    killed = run.with_suffix(".txt")
    with FileLock(f"{run}.lock"):
        if not killed.exists():
            job = start(write_inputs(run), 1)
            wait_for_a_training_round(run, job)
            kill_all(job)
            killed_status(run)
            assert len(snapshots(run)) >= 2
            killed.touch()
    return run
