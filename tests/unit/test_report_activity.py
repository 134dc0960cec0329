"""Who did what when: what is kept, how it is read, and what is drawn of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fhi_al.report import clock
from fhi_al.report.activity import (
    ActivityRecord,
    Launch,
    Look,
    read_activity,
    seconds_of_entries,
)
from fhi_al.report.clock import ACTIVITIES, Clock
from fhi_al.report.journal import Journal
from fhi_al.report.page.timeline import _shares


def kept(path: Path, stopwatch: Clock, journal: Journal) -> ActivityRecord:
    busy = {"labels": {1: 2.5}, "training": {1: 0.0, 2: 7.0}}
    return ActivityRecord(path, stopwatch, journal, lambda: busy, lambda: 5)


def test_a_record_is_read_as_it_was_kept(tmp_path: Path) -> None:
    stopwatch, journal = Clock(), Journal(tmp_path / "journal.jsonl")
    record = kept(tmp_path / "report" / "activity.jsonl", stopwatch, journal)
    record.begin(["drives", "labels", "training"])
    with stopwatch.section(clock.MD):
        pass
    journal.add("check", md_step=20)
    record.close()
    (launch,) = read_activity(tmp_path / "report" / "activity.jsonl")
    assert launch.roles == ("drives", "labels", "training") and launch.journal_bytes == 0
    first, last = launch.looks
    assert first.journal_bytes == 0 and last.journal_bytes == journal.size() > 0
    assert last.n_labels == 5
    assert last.busy["training"] == {"1": 0.0, "2": 7.0} and last.busy["labels"] == {"1": 2.5}
    assert set(last.busy["rank 0"]) == set(ACTIVITIES)


def test_lines_come_by_time_not_by_what_happens(tmp_path: Path) -> None:
    stopwatch = Clock()
    record = kept(tmp_path / "activity.jsonl", stopwatch, Journal(tmp_path / "journal.jsonl"))
    record.begin(["drives"])
    for _ in range(2000):
        with stopwatch.section(clock.MD):
            pass
    (launch,) = read_activity(tmp_path / "activity.jsonl")
    # One at once, then one each half second: there are a few at most, on a slow machine too.
    assert 1 <= len(launch.looks) <= 2 + sum(stopwatch.seconds().values()) / 0.5


def test_a_disk_that_takes_nothing_stops_nothing(tmp_path: Path, caplog) -> None:
    (tmp_path / "report").write_text("not a folder")
    stopwatch = Clock()
    record = kept(
        tmp_path / "report" / "activity.jsonl", stopwatch, Journal(tmp_path / "journal.jsonl")
    )
    record.begin(["drives"])
    with stopwatch.section(clock.MD):
        pass
    record.close()
    assert len(caplog.records) == 1 and "will not say who did what when" in caplog.text


def test_a_damaged_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "activity.jsonl"
    lines = [
        {"launch": 1.0, "roles": ["drives"], "journal": 0, "n_labels": 0},
        {"s": 1.0, "journal": 10, "n_labels": 1, "rank 0": {"MD": 1.0}},
        {"s": 2.0, "journal": 20, "n_labels": 1, "rank 0": {"DFT": 1.0}},
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + '\n{"s": 3.0, "jour')
    (launch,) = read_activity(path)
    assert [look.busy["rank 0"] for look in launch.looks] == [{"MD": 1.0}, {"MD": 1.0, "DFT": 1.0}]


def look(at_s: float, journal_bytes: int) -> Look:
    return Look(at_s, journal_bytes, 0, {})


def test_what_a_killed_launch_wrote_counts_from_when_it_was_written_again() -> None:
    killed = Launch(0.0, ("drives",), 0, [look(1.0, 100), look(2.0, 200), look(3.0, 300)])
    # The snapshot was at 200: entries after it happen again.
    resumed = Launch(9.0, ("drives",), 200, [look(1.0, 250), look(2.0, 400)])
    assert seconds_of_entries([killed, resumed], [50, 100, 200, 240, 300, 400, 500]) == [
        *(1.0, 1.0, 2.0),  # of the first launch
        *(4.0, 5.0, 5.0),  # of the second, which began after 3 s
        None,  # not seen by any
    ]


def test_what_was_not_recorded_has_no_time() -> None:
    later = Launch(0.0, ("drives",), 200, [look(1.0, 300)])
    assert seconds_of_entries([later], [100, 200, 250]) == [None, None, 1.0]


def test_a_long_calculation_is_drawn_over_the_time_that_it_took() -> None:
    """It is counted when it is finished."""
    looks = [
        Look(at_s, 0, 0, {"labels": {"1": seconds}})
        for at_s, seconds in ((2.0, 0.0), (4.0, 0.0), (6.0, 0.0), (8.0, 4.0), (10.0, 4.0))
    ]
    launch = Launch(0.0, ("drives", "labels"), 0, looks)
    found = _shares(launch, "labels", "1", np.linspace(0.0, 10.0, 6), backwards=True)
    assert_allclose(found, [0, 0, 1, 1, 0], atol=1e-12)


def test_shares_of_rank_0_are_those_of_its_clock() -> None:
    looks = [
        Look(at_s, 0, 0, {"rank 0": {"MD": seconds}}) for at_s, seconds in ((5.0, 1.0), (10.0, 6.0))
    ]
    found = _shares(
        Launch(0.0, ("drives",), 0, looks),
        "rank 0",
        "MD",
        np.array([0.0, 5.0, 10.0]),
        backwards=False,
    )
    assert found.tolist() == pytest.approx([0.2, 1.0])
