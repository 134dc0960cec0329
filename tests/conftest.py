"""Shared fixtures.  Its presence puts tests/ on the path, so that tests import ``asi.build``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from foundation.small_foundation import SmallFoundation, with_model

# Model backends of the tests' own, for the tests and for the programs that they start.
sys.path.insert(0, str(Path(__file__).parent / "backends"))

# Oversubscribed threads make a 6 ms call take 150 ms; set before numpy and torch load OpenMP.
os.environ["OMP_NUM_THREADS"] = "1"

# Every process that a test starts would compile the whole package again: 0.2 s of CPU.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Runs write hundreds of small files to the disk and wait for it: folders of tests are in memory
# where there is enough of it, see also tmp_path_retention_policy.
MEMORY = Path("/dev/shm")
ENOUGH_BYTES = 2e9


def pytest_configure() -> None:
    """Put the folders of tests into memory, unless somebody says where they are to be."""
    if not MEMORY.is_dir() or "PYTEST_DEBUG_TEMPROOT" in os.environ:
        return
    state = os.statvfs(MEMORY)
    # A library that tests compile is loaded from there.
    if state.f_bavail * state.f_frsize > ENOUGH_BYTES and not state.f_flag & os.ST_NOEXEC:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(MEMORY)


@pytest.fixture(scope="session")
def small_foundation(tmp_path_factory: pytest.TempPathFactory) -> SmallFoundation:
    """The shipped weights, and the same as a .model file."""
    return with_model(tmp_path_factory.mktemp("foundation"))


@pytest.fixture(autouse=True)
def the_default_dtype_stays() -> Iterator[None]:
    """Put torch's back: MACE's calculator changes it, also for the tests that come later."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_default_dtype(torch.float32)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests measured (``record_property("measured", ...)``), from whichever process."""
    measured = [
        (report.nodeid, value)
        for report in terminalreporter.stats.get("passed", [])
        for name, value in getattr(report, "user_properties", [])
        if name == "measured" and report.when == "call"
    ]
    if measured:
        terminalreporter.section("measured")
        for test, value in measured:
            terminalreporter.write_line(f"{value}  ({test})")
