"""docs/explanation/faults.md: every test that its tables name exists, and every row names one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    line
    for line in (ROOT / "docs" / "explanation" / "faults.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| fault |")
]
TESTS = {
    name
    for file in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
}


def test_there_are_rows() -> None:
    assert len(ROWS) > 20


@pytest.mark.parametrize("row", ROWS, ids=[row[2:40] for row in ROWS])
def test_a_row_names_tests_that_exist(row: str) -> None:
    named = re.findall(r"`(test_\w+)`", row.rstrip(" |").rpartition("|")[2])
    assert named
    assert set(named) <= TESTS
