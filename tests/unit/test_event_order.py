"""The order of events is seen again as it was written, whatever a kill has left of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fhi_al.event_order import EventOrder


def recorded(path: Path) -> EventOrder:
    """Five looks: two that found something, two labels asked for, the last after four looks."""
    order = EventOrder(path)
    order.asked("a")
    order.look([])
    order.look(["a"])
    order.asked("b")
    order.look([])
    order.look([])
    order.asked("c")
    order.look([])
    order.close()
    return order


def seen_again(path: Path) -> list[list[str] | None]:
    order = EventOrder(path)
    found = []
    for _ in range(6):
        found.append(order.recorded())
        order.look(found[-1] or [])
    return found


def test_what_was_found_is_found_again_up_to_the_last_label_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "order.jsonl"
    recorded(path)
    before = path.read_bytes()
    # After four looks "c" was asked for; what the fifth found nobody knows.
    assert seen_again(path) == [[], ["a"], [], [], None, None]
    assert path.read_bytes() == before


def test_nothing_is_written_before_anything_happens(tmp_path: Path) -> None:
    order = EventOrder(tmp_path / "restart" / "order.jsonl")
    order.look([])
    assert not order.path.exists()
    assert not order.is_repeating


def test_a_run_that_goes_another_way_forgets_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "order.jsonl"
    recorded(path)
    order = EventOrder(path)
    order.look(order.recorded() or [])
    order.forget_the_rest()
    assert not order.is_repeating
    order.look(["z"])
    order.close()
    assert seen_again(path) == [[], ["z"], None, None, None, None]


@pytest.mark.parametrize("torn", [b'{"look":9,"fou', b"\0\0\0\n", b'{"strange":1}\n'])
def test_a_line_that_was_not_written_whole_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "order.jsonl"
    recorded(path)
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert seen_again(path) == [[], ["a"], [], [], None, None]
    assert path.read_bytes() == whole
