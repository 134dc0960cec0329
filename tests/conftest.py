"""Shared fixtures.  Its presence puts tests/ on the path, so that tests import ``asi.build``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from foundation.small_foundation import SmallFoundation, with_model

# Model backends of the tests' own, for the tests and for the programs that they start.
sys.path.insert(0, str(Path(__file__).parent / "backends"))

# Oversubscribed threads make a 6 ms call take 150 ms; set before numpy and torch load OpenMP.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session")
def small_foundation(tmp_path_factory: pytest.TempPathFactory) -> SmallFoundation:
    """The shipped weights, and the same as a .model file."""
    return with_model(tmp_path_factory.mktemp("foundation"))


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
