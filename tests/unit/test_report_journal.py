"""The journal, cut back and replayed; the tables made from it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from fhi_al.report.journal import Entry, Journal
from fhi_al.report.tables import Tables


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "restart" / "journal.jsonl"


def entries(path: Path) -> list[Entry]:
    seen: list[Entry] = []
    journal = Journal(path)
    journal.listen(seen.append)
    journal.close()
    return seen


def test_a_listener_hears_the_past_and_what_comes(path: Path) -> None:
    journal = Journal(path)
    journal.add("check", uncertainty=0.1, threshold=None)
    heard: list[Entry] = []
    journal.listen(heard.append)
    journal.add("check", uncertainty=0.25, crosses=True)
    expected = [
        {"kind": "check", "uncertainty": 0.1, "threshold": None},
        {"kind": "check", "uncertainty": 0.25, "crosses": True},
    ]
    assert heard == expected
    journal.close()
    assert entries(path) == expected


def test_what_came_after_the_snapshot_is_cut_off(path: Path) -> None:
    journal = Journal(path)
    journal.add("check", n=1)
    length = journal.length()
    assert length == path.stat().st_size
    journal.add("check", n=2)
    journal.close()
    resumed = Journal(path)
    resumed.cut(length)
    resumed.add("check", n=3)
    resumed.close()
    assert [entry["n"] for entry in entries(path)] == [1, 3]


def test_the_length_after_a_cut_is_that_of_the_file(path: Path) -> None:
    """A snapshot written right after a resume holds it; with the old one the next would fail."""
    journal = Journal(path)
    journal.add("check", n=1)
    length = journal.length()
    journal.add("check", n=2)
    journal.close()
    resumed = Journal(path)
    resumed.cut(length)
    assert resumed.length() == length
    resumed.add("check", n=3)
    assert resumed.length() == path.stat().st_size
    resumed.cut(0)
    assert resumed.length() == 0
    resumed.close()


def test_a_journal_shorter_than_the_snapshot_says_is_not_filled_with_zeros(path: Path) -> None:
    """Its owner removed it, or the disk lost its end: the tables are shorter, the run goes on."""
    journal = Journal(path)
    journal.add("check", n=1)
    size = journal.length()
    journal.cut(10 * size)
    assert journal.length() == size
    journal.close()
    assert [entry["n"] for entry in entries(path)] == [1]


def test_a_cut_journal_can_be_cut_while_it_has_unwritten_entries(path: Path) -> None:
    journal = Journal(path)
    journal.add("check", n=1)
    journal.cut(0)
    journal.add("check", n=2)
    journal.close()
    assert [entry["n"] for entry in entries(path)] == [2]


def epoch(member: int, epoch: int, **values: Any) -> dict[str, Any]:
    return {
        "phase": "active learning",
        "member": member,
        "member_name": f"ethanol_{member}",
        "epoch": epoch,
        "n_training": 4,
        "n_validation": 1,
        "learning_rate": 0.01,
        "training_loss": 1 / 3,
        **values,
    }


def fill(journal: Journal, start: int, stop: int) -> None:
    for n in range(start, stop):
        for member in range(2):
            validated = {"mae_forces": 0.1 / (n + 1), "validation_loss": 1e-300} if n % 2 else {}
            journal.add("epoch", **epoch(member, n, **validated))
        journal.add("ensemble", phase="active learning", epoch=n, training_loss=1 / 7, mae_forces=1)
        journal.add(
            "check",
            sweep=n,
            trajectory=0,
            md_step=10 * n,
            uncertainty=0.1 + n,
            threshold=None if n < 2 else 1.0,
            crosses=n == 3,
        )
        journal.add("crossing", trajectory=0, md_step=10 * n, steps_since_last=10)
        journal.add("sanity", sweep=n, trajectory=0, md_step=n, uncertainty=float("nan"))
        journal.add("unknown to the tables", n=n)


def contents(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*.csv"))}


def run(folder: Path, start: int, stop: int, length: int | None) -> int:
    """A launch: cut the journal, remake the tables, add entries; the journal's length."""
    journal = Journal(folder / "restart" / "journal.jsonl")
    if length is not None:
        journal.cut(length)
    tables = Tables(folder / "results", folder / "analysis")
    journal.listen(tables.add)
    fill(journal, start, stop)
    length = journal.length()
    journal.close()
    tables.close()
    return length


def test_tables_of_a_resumed_run_are_those_of_an_unbroken_one(tmp_path: Path) -> None:
    unbroken, broken, again = (tmp_path / name for name in ("unbroken", "broken", "again"))
    run(unbroken, 0, 6, None)
    length = run(broken, 0, 2, None)
    run(broken, 2, 5, None)  # killed before its snapshot
    run(broken, 2, 6, length)
    assert contents(broken) == contents(unbroken)
    assert sorted(contents(unbroken)) == [
        "analysis/losses.csv",
        "analysis/md_steps_between_crossings.csv",
        "analysis/sanity_checks.csv",
        "analysis/uncertainty_history.csv",
        "results/ensemble_errors.csv",
        "results/ethanol_0_errors.csv",
        "results/ethanol_1_errors.csv",
    ]
    # And made again from the journal alone.
    (again / "restart").mkdir(parents=True)
    (again / "restart" / "journal.jsonl").write_bytes(
        (unbroken / "restart" / "journal.jsonl").read_bytes()
    )
    run(again, 0, 0, None)
    assert contents(again) == contents(unbroken)


def test_tables_of_an_abandoned_launch_go_though_the_resumed_one_has_no_rows(
    tmp_path: Path,
) -> None:
    run(tmp_path, 0, 3, None)
    (tmp_path / "results" / "other_run_5_errors.csv").write_text("not ours to remove")
    run(tmp_path, 0, 0, 0)
    assert list((tmp_path / "analysis").iterdir()) == []
    assert not (tmp_path / "results" / "ensemble_errors.csv").exists()
    assert (tmp_path / "results" / "other_run_5_errors.csv").exists()


def test_a_row_has_its_values_under_their_columns(tmp_path: Path) -> None:
    run(tmp_path, 0, 4, None)
    with (tmp_path / "analysis" / "uncertainty_history.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[1] == {
        "sweep": "1",
        "trajectory": "0",
        "md_step": "10",
        "uncertainty": "1.1",
        "threshold": "",  # None while warming up
        "stress_uncertainty": "",  # without compute_stress
        "stress_threshold": "",
        "md": "",  # of a version that did not say
        "system": "",
        "crosses": "False",
        # Of entries that earlier versions wrote.
        "temperature": "",
        "energy": "",
        "volume": "",
    }
    assert rows[3]["threshold"] == "1.0"
    assert rows[3]["crosses"] == "True"
    with (tmp_path / "results" / "ethanol_1_errors.csv").open(newline="") as stream:
        first, second, *_ = csv.DictReader(stream)
    assert float(first["training_loss"]) == 1 / 3  # every digit
    assert first["mae_forces"] == ""  # this epoch was not validated
    assert float(second["mae_forces"]) == 0.05


def test_without_analysis_there_is_no_analysis_folder(tmp_path: Path) -> None:
    tables = Tables(tmp_path / "results", None)
    tables.add({"kind": "check", "uncertainty": 0.1})
    tables.add({"kind": "ensemble", "epoch": 1})
    tables.close()
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_a_damaged_line_is_left_out_and_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(path)
    for n in (1, 2, 3):
        journal.add("check", n=n)
    journal.close()
    path.write_text(path.read_text().replace('"n": 2', '"n": 2"'))
    assert [entry["n"] for entry in entries(path)] == [1, 3]
    assert caplog.messages == [f"{path}:2: damaged line, left out of the tables"]
