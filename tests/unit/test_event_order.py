"""The order of events is seen again as it was written, whatever a kill has left of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fhi_al.labels.completion_log import CompletionLog


def recorded(path: Path) -> CompletionLog:
    """Five looks: two that found something, two labels asked for, the last after four looks."""
    order = CompletionLog(path)
    order.pending("a")
    order.record([])
    order.record(["a"])
    order.pending("b")
    order.record([])
    order.record([])
    order.pending("c")
    order.record([])
    order.close()
    return order


def seen_again(path: Path) -> list[list[str] | None]:
    order = CompletionLog(path)
    found = []
    for _ in range(6):
        found.append(order.recorded())
        order.record(found[-1] or [])
    return found


def test_what_was_found_is_found_again_up_to_the_last_label_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "order.jsonl"
    recorded(path)
    before = path.read_bytes()
    # After four looks "c" was asked for; what the fifth found nobody knows.
    assert seen_again(path) == [[], ["a"], [], [], None, None]
    assert path.read_bytes() == before


def test_nothing_is_written_before_anything_happens(tmp_path: Path) -> None:
    order = CompletionLog(tmp_path / "restart" / "order.jsonl")
    order.record([])
    assert not order.path.exists()
    assert not order.is_repeating


def test_a_run_that_goes_another_way_forgets_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "order.jsonl"
    recorded(path)
    order = CompletionLog(path)
    order.record(order.recorded() or [])
    order.forget_the_rest()
    assert not order.is_repeating
    order.record(["z"])
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
