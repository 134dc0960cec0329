"""Run scripts under a real mpirun, and build the ASI library once for all tests that need it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from asi.build import build_asi_library
from preloaded.launch import preloaded

SCRIPTS = Path(__file__).parents[1] / "mpi" / "scripts"
SOURCE = Path(__file__).parents[2] / "src"
TIMEOUT_S = 60.0
MARK = "RESULT "


@dataclass(frozen=True)
class MpiRun:
    """How a job under mpirun ended; ``result`` is what its rank 0 reported as JSON, or None."""

    exit_code: int
    output: str
    result: Any


def mpirun() -> str:
    """The mpirun beside this Python if there is one, else the one on the PATH."""
    beside = Path(sys.executable).parent / "mpirun"
    found = str(beside) if beside.exists() else shutil.which("mpirun")
    assert found is not None, "no mpirun: pip install mpich"
    return found


def run_mpi(
    script: str,
    ranks: int,
    *arguments: object,
    env: dict[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
    preload: Literal["", "torch", "mace"] = "",
) -> MpiRun:
    """Run a script of tests/mpi/scripts on so many ranks; a job that hangs is killed and fails.

    With ``preload`` its ranks have imported these libraries, see preloaded/launch.py.
    """
    program = [sys.executable, str(SCRIPTS / script)]
    if preload:
        program = preloaded(program[-1], mace=preload == "mace")
    command = [mpirun(), "-n", str(ranks), *program]
    process = subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SOURCE), **(env or {})},
    )
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        pytest.fail(f"{script} hung on {ranks} ranks for {timeout_s} s:\n{output}")
    marked = [line for line in output.splitlines() if line.startswith(MARK)]
    result = json.loads(marked[-1][len(MARK) :]) if marked else None
    return MpiRun(process.returncode, output, result)


@pytest.fixture(scope="session")
def asi_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ASI library on xTB, compiled once."""
    return build_asi_library(tmp_path_factory.mktemp("asi_library"))
