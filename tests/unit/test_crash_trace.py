"""Whether the engine died on a structure or the run was killed from outside, on real processes."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from fhi_al.core.errors import CannotCompute
from fhi_al.labels.crash_trace import RECORD, CallRecord

# A launch that computes a structure and ends within it, in one of several ways.
LAUNCH = """
import ctypes, os, signal, sys
from pathlib import Path
from fhi_al.labels.crash_trace import CallRecord, RankTrace

folder, end = Path(sys.argv[1]), sys.argv[2]
libc = ctypes.CDLL(None)
record = CallRecord(folder)
trace = RankTrace(record.traces, 0)
with record.of("a structure", [0]), trace.watching():
    os.write(2, b"words of the engine\\n")
    if end == "exit":
        libc.exit(3)
    if end == "abort":
        libc.abort()
    if end == "segmentation fault":
        ctypes.string_at(0)
    if end == "MPI_Abort":
        # What MPICH says; it is then killed by mpirun, which runs no exit handlers.
        os.write(2, b"Abort(7) on node 0: application called MPI_Abort(MPI_COMM_WORLD, 7)")
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "error":
        raise RuntimeError("the engine's folder is gone")
record.close()
"""


def launch(folder: Path, end: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LAUNCH, str(folder), end]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("end", ["exit", "abort", "segmentation fault", "MPI_Abort", "error"])
def test_a_death_in_the_engine_is_counted(tmp_path: Path, end: str) -> None:
    for attempt in (1, 2, 3):
        assert launch(tmp_path, end).returncode != 0
        record = CallRecord(tmp_path)
        assert record.crashes("a structure") == attempt
        assert record.crashes("another") == 0
        # Looking is no attempt.
        assert CallRecord(tmp_path).crashes("a structure") == attempt


def test_a_kill_from_outside_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        launch(tmp_path, "SIGKILL")
        assert CallRecord(tmp_path).crashes("a structure") == 0
    lines = [message for message in caplog.messages if "has ended" in message]
    assert [f"has ended {n} times" in text for n, text in zip((3, 4, 5), lines, strict=True)]
    assert 'set its "crashes" to 3 in this file' in lines[0]
    # The way out that the message tells.
    (tmp_path / RECORD).write_text(json.dumps([{"key": "a structure", "ranks": [], "crashes": 3}]))
    assert CallRecord(tmp_path).crashes("a structure") == 3


def test_kills_in_between_do_not_hide_the_deaths(tmp_path: Path) -> None:
    for end in ("exit", "SIGKILL", "abort", "SIGKILL", "SIGKILL", "exit"):
        launch(tmp_path, end)
    assert CallRecord(tmp_path).crashes("a structure") == 3


def test_a_call_that_returns_leaves_nothing(tmp_path: Path) -> None:
    launch(tmp_path, "exit")
    done = launch(tmp_path, "return")
    assert done.returncode == 0
    # What the engine had to say is not lost.
    assert done.stderr.endswith("words of the engine\n")
    assert list(tmp_path.iterdir()) == []
    assert CallRecord(tmp_path).crashes("a structure") == 0


def test_the_handler_at_exit_outlives_the_interpreter(tmp_path: Path) -> None:
    # It runs after Python has given its memory back: a name in there would be any name by then.
    code = (
        "import sys; from pathlib import Path; from fhi_al.labels.crash_trace import RankTrace\n"
        "trace = RankTrace(Path(sys.argv[1]), 0)"
    )
    (tmp_path / "bystander").touch()
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)
    assert [path.name for path in tmp_path.iterdir()] == ["bystander"]


@pytest.mark.parametrize("end", ["exit", "abort", "error"])
def test_the_engines_last_words_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    launch(tmp_path, end)
    with caplog.at_level(logging.WARNING, "fhi_al"):
        CallRecord(tmp_path, lambda: "I cannot go on")
    (message,) = caplog.messages
    assert "died on structure a structure, attempt 1 of 3" in message
    assert message.endswith("its last lines:\nI cannot go on")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": "a"}', '{"strange": 1}', "\0" * 40])
def test_a_record_that_cannot_be_read_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / RECORD).write_text(content)
    assert CallRecord(tmp_path).crashes("a") == 0


def test_an_engine_that_refuses_a_structure_has_not_died(tmp_path: Path) -> None:
    record = CallRecord(tmp_path)
    with pytest.raises(CannotCompute), record.of("a structure", [0]):
        raise CannotCompute("it knows no such element")
    assert record.crashes("a structure") == 0
    record.close()
    assert not (tmp_path / RECORD).exists()
