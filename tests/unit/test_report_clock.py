"""Where the time goes: nested sections, and launches that add up."""

from __future__ import annotations

import time

import pytest

from fhi_al.report.clock import ACTIVITIES, DFT, MD, OTHER, SNAPSHOTS, TRAINING, WAITING, Clock


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in s, to be set."""
    seconds = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: seconds[0])
    return seconds


def test_time_in_an_inner_section_is_not_booked_on_the_outer(now: list[float]) -> None:
    measured = Clock()
    now[0] += 1
    with measured.section(MD):
        now[0] += 2
        with measured.section(DFT):  # ab initio MD asks for labels
            now[0] += 4
        now[0] += 8
    now[0] += 16
    with measured.section(TRAINING):
        now[0] += 32
    with measured.section(SNAPSHOTS):
        now[0] += 64
    booked = {DFT: 4.0, TRAINING: 32.0, MD: 10.0, WAITING: 0.0, SNAPSHOTS: 64.0, OTHER: 17.0}
    assert measured.seconds() == booked
    assert sum(measured.seconds().values()) == now[0] - 100.0


def test_the_same_section_may_be_nested(now: list[float]) -> None:
    measured = Clock()
    with measured.section(MD):
        now[0] += 1
        with measured.section(MD):
            now[0] += 2
    assert measured.seconds()[MD] == 3.0


def test_seconds_so_far_include_the_section_under_way(now: list[float]) -> None:
    measured = Clock()
    with measured.section(DFT):
        now[0] += 5
        assert measured.seconds()[DFT] == 5.0
        now[0] += 6
    assert measured.seconds()[DFT] == 11.0


def test_an_exception_closes_its_section(now: list[float]) -> None:
    measured = Clock()
    with pytest.raises(RuntimeError), measured.section(DFT):
        now[0] += 3
        raise RuntimeError
    now[0] += 4
    assert measured.seconds() == dict.fromkeys(ACTIVITIES, 0.0) | {DFT: 3.0, OTHER: 4.0}


def test_launches_add_up(now: list[float]) -> None:
    earlier = {DFT: 10.0, TRAINING: 20.0, MD: 30.0, WAITING: 1.0, SNAPSHOTS: 5.0, OTHER: 40.0}
    started, continued = Clock(earlier), Clock()
    continued.continue_from(earlier)
    now[0] += 1
    expected = {**earlier, OTHER: 41.0}
    assert started.seconds() == expected
    assert continued.seconds() == expected
    assert continued.in_this_launch() == dict.fromkeys(ACTIVITIES, 0.0) | {OTHER: 1.0}


def test_what_is_given_out_is_a_copy(now: list[float]) -> None:
    measured = Clock()
    measured.seconds()[DFT] = 99.0
    assert list(measured.seconds()) == list(ACTIVITIES)
    assert measured.seconds()[DFT] == 0.0
