"""Standard output may go away; other errors of it stay errors."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

# Writes through sys.stdout and past it, and tells on standard error how that went.
PROGRAM = """
import os, sys
from fhi_al.process.output import output_that_may_close
outside = sys.stdout
try:
    with output_that_may_close():
        print("somebody reads this", flush=True)
        sys.stdin.readline()
        print("nobody reads this", flush=True)
        os.write(1, b"nor what is written past Python")
        print("left in the buffer")
    sys.stderr.write("the block ended; ")
    assert sys.stdout is outside
    print("outside", flush=True)
    sys.stderr.write("no error")
except OSError as error:
    sys.stderr.write(error.strerror)
"""


def told_of(reading: int, writing: int) -> str:
    """What PROGRAM tells if its standard output is closed after the first line."""
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert os.read(reading, 100).startswith(b"somebody reads this")
    os.close(reading)
    _, words = program.communicate("\n", timeout=60)
    assert program.returncode == 0, words
    return words


def test_a_closed_pipe_is_no_error_within_the_block_only() -> None:
    assert told_of(*os.pipe()) == "the block ended; Broken pipe"


def test_a_terminal_that_is_closed_is_no_error_within_the_block_only() -> None:
    assert told_of(*pty.openpty()) == "the block ended; Input/output error"


def test_a_full_disk_is_an_error() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.stderr.startswith("No space left on device")


def test_without_standard_output_there_is_a_stream_all_the_same() -> None:
    close = "import os, sys; os.close(1); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    program = (
        "import sys\n"
        "from fhi_al.process.output import output_that_may_close\n"
        "assert sys.stdout is None\n"
        "with output_that_may_close():\n"
        "    print('to nobody', sys.stdout.isatty(), flush=True)\n"
        "assert sys.stdout is None\n"
    )
    subprocess.run([sys.executable, "-c", close, "-c", program], timeout=60, check=True)
