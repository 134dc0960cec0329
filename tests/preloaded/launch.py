"""Ranks that have imported the libraries before they start.

A command takes three seconds of CPU to import torch, one more with MACE, and half a second for
ours: most of the time of a run of the tests.  Under mpirun, ``client.py`` hands its output, its
environment and its connection to mpirun to a rank that ``server.py`` forks from a process that has
those modules, but no MPI, hands signals on to it, and ends as the rank ends.  Who kills a client
kills its rank: see ``wait_until_dead``.  What is watched (its memory, its cores), is killed while
it starts, or ends within a library is a process of its own, as with users.
"""

from __future__ import annotations

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
# Of all that start servers or ask for one.
LOCK = Path(tempfile.gettempdir()) / f"preloaded_{os.getuid()}.lock"

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


# Started by this process.
_SERVERS: list[subprocess.Popen[str]] = []


@functools.cache
def _server(modules: tuple[str, ...]) -> Path:
    """The socket of a server, which is started once and ends with the last that has asked for it.

    The processes of pytest-xdist share it.
    """
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(os.getpid())
    # The path of a socket may have 107 characters.
    folder = Path(tempfile.gettempdir()) / f"preloaded_{session[:8]}_{len(modules)}"
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder.mkdir(exist_ok=True)
        socket, users = folder / "socket", folder / "users"
        if not users.exists():
            os.mkfifo(users)
        # Kept open until this process ends, and so the server, which reads from it.
        os.open(users, os.O_RDWR)
        if not socket.exists():
            _start_server(socket, modules)
    return socket


def _start_server(socket: Path, modules: tuple[str, ...]) -> None:
    users = os.open(socket.with_name("users"), os.O_RDONLY)
    server = subprocess.Popen(
        [sys.executable, str(SERVER), str(socket), str(LOCK), *modules],
        stdin=users,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    os.close(users)
    assert server.stdout is not None
    # MACE says something when it is imported.
    assert "ready\n" in iter(server.stdout.readline, ""), "no server of preloaded ranks"
    _SERVERS.append(server)
