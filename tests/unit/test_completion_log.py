"""The order of events is seen again as it was written, whatever a kill has left of it."""

from __future__ import annotations

import os
import subprocess
import sys
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


def test_a_record_that_a_nearly_full_disk_takes_half_of_is_not_there(tmp_path: Path) -> None:
    """A real limit on the file's size, in a process of its own."""
    path = tmp_path / "order.jsonl"
    recorded(path)
    before = path.read_bytes()
    script = f"""
import resource
from pathlib import Path
from fhi_al.labels.completion_log import CompletionLog

path = Path({str(path)!r})
completion_log = CompletionLog(path)
while completion_log.is_replaying:
    completion_log.record(completion_log.recorded())
size = path.stat().st_size
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
for act in (lambda: completion_log.record(["b"]), lambda: completion_log.submitted("d")):
    n_records = completion_log.n_records
    for room in (0, 1, 10):
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + room, hard))
        try:
            act()
        except OSError as error:
            assert error.filename == str(path), error
        else:
            raise SystemExit(f"with room for {{room}} bytes the write did not fail")
        assert completion_log.n_records == n_records
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    act()  # there is room again
    completion_log.record([])
completion_log.close()
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=os.environ
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert path.read_bytes().startswith(before)
    assert seen_again(path) == [[], ["a"], [], [], ["b"], []]
