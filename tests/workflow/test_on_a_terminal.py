"""What a terminal gets to see of a run, and what a pipe."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from preloaded.launch import alive_file, preloaded, wait_until_dead
from run_folder import KILL_TIMEOUT_S, SMALLEST, python_path, write_inputs

pytestmark = pytest.mark.mpi

ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(folder: Path) -> tuple[int, bytes]:
    """Exit code and what a terminal gets to see."""
    terminal, end = pty.openpty()
    alive = alive_file()
    program = [*preloaded(str(Path(sys.executable).parent / "FHI_AL"), mace=False)]
    job = subprocess.Popen(
        [*program, "--workdir", str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=end,
        stderr=end,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": python_path(), **alive},
    )
    os.close(end)
    seen = b""
    try:
        while part := os.read(terminal, 65536):
            seen += part
    except OSError:  # all who could write are gone
        pass
    code = job.wait(timeout=KILL_TIMEOUT_S)
    os.close(terminal)
    wait_until_dead(alive, KILL_TIMEOUT_S)
    return code, seen


def test_bars_stand_below_the_lines_of_the_log(tmp_path) -> None:
    folder = write_inputs(tmp_path / "run", active_learning={"ACTIVE_LEARNING": SMALLEST})
    code, seen = on_a_terminal(folder)
    assert code == 0, seen
    text = ESCAPES.sub(b"", seen).decode()
    assert "sampling, round 1" in text and "━" in text
    logged = [folder / name for name in ("initial_dataset.log", "AL.log")]
    lines = [line for path in logged for line in path.read_text().splitlines()]
    assert len(lines) > 10
    assert [line for line in lines if line not in text] == []


def test_elsewhere_there_are_lines_only(finished_run) -> None:
    output = (finished_run("tblite", 1) / "output.txt").read_text()
    assert "\x1b" not in output and "━" not in output
