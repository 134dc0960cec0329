"""Finished runs, shared by the tests that only look at them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from asi.harness import asi_library  # noqa: F401 (a fixture)
from run_folder import succeed, write_inputs

FinishedRun = Callable[[str, int], Path]


@pytest.fixture(scope="session")
def finished_run(
    tmp_path_factory: pytest.TempPathFactory,
    asi_library: Path,  # noqa: F811
) -> FinishedRun:
    """Folder of a finished run by engine ("tblite" or "asi") and number of ranks."""
    folder = tmp_path_factory.mktemp("runs")
    done: dict[tuple[str, int], Path] = {}

    def get(engine: str, ranks: int) -> Path:
        if (engine, ranks) not in done:
            library = asi_library if engine == "asi" else None
            run = write_inputs(folder / f"{engine}_{ranks}", asi_library=library)
            (run / "output.txt").write_text(succeed(run, ranks))
            done[engine, ranks] = run
        return done[engine, ranks]

    return get
