"""Finished runs, shared by the tests that only look at them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from asi.harness import asi_library  # noqa: F401 (a fixture)
from filelock import FileLock
from run_folder import LONG, succeed, write_inputs

FinishedRun = Callable[..., Path]


@pytest.fixture(scope="session")
def finished_run(
    tmp_path_factory: pytest.TempPathFactory,
    asi_library: Path,  # noqa: F811
) -> FinishedRun:
    """Folder of a finished run by engine ("tblite" or "asi"), number of ranks and length.

    The processes of pytest-xdist share the runs: the first that needs one makes it.
    """
    folder = tmp_path_factory.getbasetemp() / "runs"
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = tmp_path_factory.getbasetemp().parent / "runs"
    folder.mkdir(exist_ok=True)

    def get(engine: str, ranks: int, *, long: bool = False) -> Path:
        run = folder / f"{engine}_{ranks}{'_long' * long}"
        output = run / "output.txt"
        with FileLock(f"{run}.lock"):
            if not output.exists():
                library = asi_library if engine == "asi" else None
                changes = {"ACTIVE_LEARNING": LONG if long else {}}
                write_inputs(run, asi_library=library, active_learning=changes)
                output.write_text(succeed(run, ranks))
        return run

    return get
