"""The order of events is seen again as it was written, whatever a kill has left of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fhi_al.labels.completion_log import CompletionLog


def recorded(path: Path) -> CompletionLog:
    """Five looks: two that found something, two labels asked for, the last after four looks."""
    completion_log = CompletionLog(path)
    completion_log.submitted("a")
    completion_log.record([])
    completion_log.record(["a"])
    completion_log.submitted("b")
    completion_log.record([])
    completion_log.record([])
    completion_log.submitted("c")
    completion_log.record([])
    completion_log.close()
    return completion_log


def seen_again(path: Path) -> list[list[str] | None]:
    completion_log = CompletionLog(path)
    found = []
    for _ in range(6):
        found.append(completion_log.recorded())
        completion_log.record(found[-1] or [])
    return found


def test_what_was_found_is_found_again_up_to_the_last_label_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "order.jsonl"
    recorded(path)
    before = path.read_bytes()
    # After four looks "c" was asked for; what the fifth found nobody knows.
    assert seen_again(path) == [[], ["a"], [], [], None, None]
    assert path.read_bytes() == before


def test_nothing_is_written_before_anything_happens(tmp_path: Path) -> None:
    completion_log = CompletionLog(tmp_path / "restart" / "order.jsonl")
    completion_log.record([])
    assert not completion_log.path.exists()
    assert not completion_log.is_replaying


def test_a_run_that_goes_another_way_forgets_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "order.jsonl"
    recorded(path)
    completion_log = CompletionLog(path)
    completion_log.record(completion_log.recorded() or [])
    completion_log.discard_rest()
    assert not completion_log.is_replaying
    completion_log.record(["z"])
    completion_log.close()
    assert seen_again(path) == [[], ["z"], None, None, None, None]


@pytest.mark.parametrize("torn", [b'{"look":9,"fou', b"\0\0\0\n", b'{"strange":1}\n'])
def test_a_line_that_was_not_written_whole_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "order.jsonl"
    recorded(path)
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert seen_again(path) == [[], ["a"], [], [], None, None]
    assert path.read_bytes() == whole
