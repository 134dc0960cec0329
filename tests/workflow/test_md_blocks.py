"""A run with several MD blocks and schedules: who runs what, and that kills change nothing."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ase.io import read
from run_folder import (
    assert_same_end,
    copy_of,
    journal,
    killed_at,
    labels,
    run,
    succeed,
    write_inputs,
)

pytestmark = [pytest.mark.mpi, pytest.mark.real]

BLOCKS: list[dict[str, Any]] = [
    {"name": "ramp", "temperature": {"from": 200, "to": 500, "over": 30}},
    {"temperature": {0: 300, 20: 500}, "thermostat": "NoseHoover", "timestep": 1.0},
]
NAMES = ("ramp", "300-500K")
KEYS = {"num_trajectories": 3, "final_test": 4}


def folder_of(path: Path, md: Any = BLOCKS, **changes: Any) -> Path:
    changed = {"ACTIVE_LEARNING": KEYS | changes, "MD": md}
    return write_inputs(path, active_learning=changed)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A run's folder, its inputs, its output."""
    folder = folder_of(tmp_path_factory.mktemp("md_blocks") / "run")
    inputs = copy_of(folder, folder.with_name("inputs"))
    return folder, inputs, succeed(folder)


def test_labels_journal_and_tables_say_which_block(finished) -> None:
    folder, _, _ = finished
    found = {
        (one["phase"], one["trajectory"], one["md"])
        for one in (r["origin"] for r in labels(folder))
    }
    # One sampling trajectory for each block; three in active learning and in the test, in turn.
    in_turn = {(0, NAMES[0]), (1, NAMES[1]), (2, NAMES[0])}
    assert {each[1:] for each in found if each[0] == "initial"} == {(0, NAMES[0]), (1, NAMES[1])}
    for phase in ("active_learning", "sanity", "test"):
        assert {each[1:] for each in found if each[0] == phase} <= in_turn
    for kind in ("check", "crossing", "sanity", "final test"):
        entries = journal(folder, kind)
        assert entries and {(e["trajectory"], e["md"]) for e in entries} <= in_turn
    checks = journal(folder, "check")
    assert {(e["trajectory"], e["md"]) for e in checks} == in_turn
    rows = list(csv.DictReader((folder / "analysis" / "uncertainty_history.csv").open()))
    assert [row["md"] for row in rows] == [e["md"] for e in checks]
    exported = read(folder / "data" / "final" / "training" / "combined.xyz", ":")
    assert {atoms.info["md"] for atoms in exported} == set(NAMES)
    # Each member has points of both blocks.
    for path in (folder / "data" / "initial" / "training").glob("water_*.xyz"):
        assert len({atoms.info["md"] for atoms in read(path, ":")}) == 2


def test_the_table_is_told(finished) -> None:
    _, inputs, output = finished
    (row,) = re.findall(r"active learning: 0, 2 +ramp +NVT +Langevin +- +(.*?) +- +0.5", output)
    assert row == "200 to 500 in 30 steps"
    assert re.search(
        r"active learning: 1 +300-500K +NVT +NoseHoover +- +300 from 0, 500 from", output
    )
    # In the test the highest temperature counts.
    assert re.search(r"final test: 1 +300-500K +NVT +Langevin +- +500 +-", output)
    check = succeed(inputs, 1, "--check")
    assert re.search(r"MD: 0, 2 +ramp +NVT", check)


def test_killed_in_every_phase_on_other_numbers_of_ranks(finished, tmp_path) -> None:
    unbroken, inputs, _ = finished
    folder = copy_of(inputs, tmp_path / "run")
    killed_at(folder, moments(unbroken))
    succeed(folder, 2)
    assert_same_end(folder, unbroken)


def moments(unbroken: Path) -> list[int]:
    """Labels and journal entries in the midst of each phase; of active learning two."""
    lines = (unbroken / "restart" / "journal.jsonl").read_text().splitlines()
    names = [json.loads(line).get("phase", "active learning") for line in lines]
    counts = Counter(record["origin"]["phase"] for record in labels(unbroken))
    first = {name: names.index(name) for name in ("active learning", "final convergence")}
    n_before_test = len(labels(unbroken)) - counts["test"]
    begin, end = (
        counts["initial"] + first["active learning"],
        n_before_test + first["final convergence"],
    )
    return [
        counts["initial"] // 2,
        begin + (end - begin) // 3,
        begin + 2 * (end - begin) // 3,
        end + 1,
        len(labels(unbroken)) + len(lines) - counts["test"] - 6,
    ]


def test_in_parallel_mode_the_blocks_take_turns_too(tmp_path) -> None:
    changes = {"initial_sampling": "foundation", "parallel": True, "max_MD_steps": 10}
    changes |= {"foundation_calculator": "tblite.ase.TBLite", "n_samples": 4, "final_test": 0}
    changes |= {"foundation_arguments": {"method": "GFN1-xTB", "verbosity": 0}}
    folder = folder_of(tmp_path / "run", {"temperature": [200, 300, 400]}, **changes)
    succeed(folder, 2)
    initial = Counter(
        r["origin"]["md"] for r in labels(folder) if r["origin"]["phase"] == "initial"
    )
    assert set(initial) == {"200K", "300K", "400K"} and min(initial.values()) >= 2
    of_trajectories = {(e["trajectory"], e["md"]) for e in journal(folder, "check")}
    assert of_trajectories == {(0, "200K"), (1, "300K"), (2, "400K")}


def test_a_block_that_moves_the_cell_of_a_molecule_is_refused(tmp_path) -> None:
    folder = folder_of(tmp_path / "run", [{"temperature": 300}, {"stat_ensemble": "NPT"}])
    code, output = run(folder, 1, "--check")
    assert code == 2
    assert "MD[1].stat_ensemble = NPT: " in output
    assert "is a molecule, which has no cell that could move" in output
    assert re.search(r"active_learning_settings\.yaml:\d+: MD\[1\]", output)
