"""Names of earlier layouts are gone: from the code, its tests, and what is written about it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Modules and folders that were moved or split, as they were imported or spoken of.
MODULES = (
    *("mace_adapter", "cluster_preflight", "preflight", "event_order", "crew", "label_pool"),
    *("overlapped_pool", "label_gate", "engine_groups", "ase_engine", "spread_training"),
    *("spread_prediction", "training_rank", "training_link", "prediction_order"),
)
# What is in them, by the names it had.
PARTS = (
    *("EventOrder", "Crew", "HandedOver", "Guarded", "Walker", "TrainingVisit", "TrainingPlace"),
    *("LabelPool", "SerialLabelPool", "OverlappedLabelPool", "LabelGate", "SpreadTrainingPool"),
    *("fit_statistics", "next_visit", "setbacks_in_row", "set_threads", "keep_freed_memory"),
    *("leave_signals_to_rank_0", "log_to_terminal", "log_libraries_to_file"),
)
# Words for which the field has its own.
WORDS = ("setback", "setbacks", "training visit", "training visits", "label pool", "label gate")
OLD = re.compile(rf"\b({'|'.join((*MODULES, *PARTS, *WORDS))})\b")
OLD_PATHS = re.compile(
    r"\b(fhi_al[./](aims|reference|procedures|heap|mpi|layout|session|assemble|dataset|checkpoint)"
    r"|procedures[./]\w+|(reference|aims)/\w+\.py|md[./]guarded|(session|assemble|heap)\.py)\b"
)
TEXT = {".py", ".md", ".yaml", ".toml", ".in", ".sh", ".c", ".h"}
# They speak of old states, settings and files, which keep their names, or are history.
MAY = {
    "CHANGELOG.md",
    "src/fhi_al/active_learning/upgrades.py",
    "src/fhi_al/settings/retired.py",
    "tests/unit/test_old_names.py",
    "tests/unit/test_settings_reading.py",
    "tests/unit/test_thresholds.py",
    "tests/unit/test_upgrades.py",
}
FOLDERS = ("src", "tests", "benchmarks", "docs", "examples", "readme_figs", ".ci")


def texts() -> list[str]:
    """Paths of all texts, relative to the root."""
    found = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in FOLDERS:
        found += (ROOT / folder).rglob("*")
    names = (str(path.relative_to(ROOT)) for path in found if path.suffix in TEXT)
    return sorted(name for name in names if name not in MAY and "old_states/" not in name)


@pytest.mark.parametrize("folder", ["", *FOLDERS])
def test_no_old_name_is_left(folder: str) -> None:
    found = []
    for name in texts():
        if name.partition("/")[0] != folder and (folder or "/" in name):
            continue
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1):
            found += [
                f"{name}:{number}: {match.group()}"
                for pattern in (OLD, OLD_PATHS)
                for match in pattern.finditer(line)
            ]
    assert found == []


def test_the_texts_are_found_and_old_names_too() -> None:
    assert {"README.md", "src/fhi_al/cli.py", "docs/developer/facts.md"} <= set(texts())
    assert OLD.search("as the event_order says") and OLD_PATHS.search("`reference/asi.py`")
    assert not OLD_PATHS.search("from fhi_al.parallel import mpi")
