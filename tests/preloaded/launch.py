"""Ranks that have imported the libraries before they start.

A command takes three seconds of CPU to import torch, one more with MACE, and half a second for
ours: most of the time of a run of the tests.  Under mpirun, ``client.py`` hands its output, its
environment and its connection to mpirun to a rank that ``server.py`` forks from a process that has
those modules, but no MPI, hands signals on to it, and ends as the rank ends.  Who kills a client
kills its rank: see ``wait_until_dead``.  What is watched (its memory, its cores), is killed while
it starts, or ends within a library is a process of its own, as with users.
"""

from __future__ import annotations

import atexit
import fcntl
import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

CLIENT = Path(__file__).with_name("client.py")
SERVER = Path(__file__).with_name("server.py")

# What takes longest.  torch.optim imports torch._dynamo when the first optimizer is made, which
# imports tabulate when Python ends.
LIBRARIES = (
    *("torch", "torch._dynamo", "tabulate", "tblite.interface", "scipy.integrate"),
    *("ase.io.extxyz", "ase.constraints", "ase.md", "pydantic", "yaml", "matplotlib.figure"),
)
MACE = ("mace.modules", "mace.tools", "mace.data", "mace.calculators")


def preloaded(program: str, *, mace: bool, ours: bool = True) -> list[str]:
    """The command that starts a Python program as a rank that has the libraries, and ours."""
    socket = _server((*MACE, *LIBRARIES) if mace else LIBRARIES)
    return [sys.executable, "-I", "-S", str(CLIENT), f"{socket}{'' if ours else '.bare'}", program]


def alive_file() -> dict[str, str]:
    """Environment of a job for whose ranks somebody may wait."""
    file, name = tempfile.mkstemp(prefix="preloaded_alive")
    os.close(file)
    return {"PRELOADED_ALIVE": name}


def wait_until_dead(environment: Mapping[str, str], timeout_s: float) -> None:
    """Wait for the forked ranks of a job, if it has any, whose clients are gone."""
    if not environment:
        return
    file = Path(environment["PRELOADED_ALIVE"])
    deadline = time.monotonic() + timeout_s
    with file.open("rb") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                assert time.monotonic() < deadline, "forked ranks outlive their clients"
                time.sleep(0.005)
    file.unlink()


@functools.cache
def _server(modules: tuple[str, ...]) -> Path:
    """The socket of a server, which is started once and ends with this process."""
    socket = Path(tempfile.mkdtemp(prefix="preloaded")) / "socket"
    server = subprocess.Popen(
        [sys.executable, str(SERVER), str(socket), *modules],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    assert server.stdout is not None
    # MACE says something when it is imported.
    assert "ready\n" in iter(server.stdout.readline, ""), "no server of preloaded ranks"
    # Its standard input is kept open, and so the server, until this process ends.
    atexit.register(lambda: server.stdin)
    return socket
