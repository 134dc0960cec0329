"""Forks ranks from a process that has imported the libraries: see launch.py.

Usage: ``server.py SOCKET MODULE ...``.  Says "ready", and ends when its standard input does.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import site
import socket
import sys
from typing import Any

# Above the numbers that a program has in use when it starts.
FREE_DESCRIPTOR = 200


def main(path: str, modules: list[str]) -> None:
    """Fork until standard input ends; in a rank: run its program."""
    before = dict(os.environ)
    for name in modules:
        importlib.import_module(name)
    # MACE sets one when it is imported.
    of_modules = {name: text for name, text in os.environ.items() if before.get(name) != text}
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(16)
    # Objects that are there now are not looked at, and so not copied, in any rank.
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for who waits for ranks
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            shutil.rmtree(os.path.dirname(path))  # noqa: PTH120
            return
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            rank = rank_of(connection, of_modules)
            runpy.run_path(rank["argv"][0], run_name="__main__")
            return
        connection.close()


def rank_of(connection: socket.socket, environment: dict[str, str]) -> dict[str, Any]:
    """Fork once more: the child is the rank and returns, the parent waits for its end and ends.

    A rank whose client is gone, killed for instance, is killed, too.
    """
    message, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 8)
    request = json.loads(message)
    rank = os.fork()
    if rank == 0:
        connection.close()
        become(request, descriptors, environment)
        return request
    for descriptor in descriptors:
        os.close(descriptor)
    with contextlib.suppress(OSError):
        connection.send(str(rank).encode())
    ended = os.pidfd_open(rank)
    ready, _, _ = select.select([ended, connection], [], [])
    if ended not in ready:
        os.kill(rank, signal.SIGKILL)
    _, status = os.waitpid(rank, 0)
    with contextlib.suppress(OSError):
        connection.send(str(status).encode())
    os._exit(0)


def become(request: dict[str, Any], descriptors: list[int], environment: dict[str, str]) -> None:
    """Take over descriptors, environment, folder and arguments of a client."""
    high = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, FREE_DESCRIPTOR) for each in descriptors]
    for descriptor in descriptors:
        os.close(descriptor)
    for descriptor, number in zip(high, request["descriptors"], strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(environment | request["environment"])
    # Held until this process is gone, however it ends.
    if "PRELOADED_ALIVE" in os.environ:
        fcntl.flock(os.open(os.environ["PRELOADED_ALIVE"], os.O_RDONLY), fcntl.LOCK_SH)
    os.chdir(request["folder"])
    sys.argv = request["argv"]
    of_client = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = [os.path.dirname(sys.argv[0]), *filter(None, of_client)]  # noqa: PTH120
    # As Python does when it starts: workflow/fault_site/ has one.
    sys.modules.pop("sitecustomize", None)
    site.execsitecustomize()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
