"""Forks ranks from a process that has imported the libraries: see launch.py.

Usage: ``server.py SOCKET LOCK MODULE ...``.  Says "ready", and ends when its standard input does.
Ranks of SOCKET have our own modules, too, but for those that need MPI or a library that is not
given; those of SOCKET.bare have nothing of ours.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import selectors
import shutil
import signal
import site
import socket
import sys
import threading
import weakref
from dataclasses import dataclass
from typing import Any, NoReturn

# Above the numbers that a program has in use when it starts.
FREE_DESCRIPTOR = 200
LIBC = ctypes.PyDLL(None)


def main(path: str, lock: str, modules: list[str]) -> NoReturn:
    """Fork until standard input ends; in a rank: run its program."""
    before = dict(os.environ)
    for name in modules:
        importlib.import_module(name)
    # MACE sets one when it is imported.
    of_modules = {name: text for name, text in os.environ.items() if before.get(name) != text}
    bare, whole = listener(f"{path}.bare"), listener(path)
    if os.fork() == 0:
        whole.close()
        run(serve(bare, lock, of_modules))
    bare.close()
    import_ours(absent=["mpi4py", *({"mace"} - {name.split(".")[0] for name in modules})])
    print("ready", flush=True)
    run(serve(whole, lock, of_modules))


def listener(path: str) -> socket.socket:
    """A socket that clients may connect to."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.bind(path)
    made.listen(64)
    return made


def import_ours(absent: list[str]) -> None:
    """Import the modules of ours that do without some libraries."""
    import fhi_al

    sys.modules.update(dict.fromkeys(absent))
    for module in pkgutil.walk_packages(fhi_al.__path__, "fhi_al.", onerror=lambda _: None):
        with contextlib.suppress(ImportError):
            importlib.import_module(module.name)
    for name in absent:
        del sys.modules[name]


@dataclass(frozen=True)
class Request:
    """What a client hands over: descriptors have the numbers that they have there."""

    argv: list[str]
    environment: dict[str, str]
    folder: str
    descriptors: dict[int, int]


def request_of(client: socket.socket) -> Request | None:
    """What a client wants; None if it has gone meanwhile."""
    with contextlib.suppress(ConnectionError):
        message, descriptors, _, _ = socket.recv_fds(client, 1 << 20, 8)
        if message:
            request = json.loads(message)
            numbers = request.pop("descriptors")
            return Request(**request, descriptors=dict(zip(numbers, descriptors, strict=True)))
    client.close()
    return None


def is_left_alone(path: str, lock: str) -> bool:
    """Whether nobody can ask any more; then nobody finds the socket either."""
    with open(lock) as file:  # noqa: PTH123
        fcntl.flock(file, fcntl.LOCK_EX)
        if not select.select([sys.stdin], [], [], 0)[0]:  # somebody has just come
            return False
        shutil.rmtree(os.path.dirname(path), ignore_errors=True)  # noqa: PTH120
        return True


def serve(listening: socket.socket, lock: str, environment: dict[str, str]) -> str:
    """Fork ranks until standard input ends: "", and the path of its program in a rank.

    A rank whose client is gone, killed for instance, is killed, too.
    """
    # Objects that are there now are not looked at, and so not copied, in any rank ...
    gc.freeze()
    # ... and libraries that were loaded before this are not taken apart at its end: 0.2 s.
    LIBC.on_exit(LIBC._exit, None)
    watched = selectors.DefaultSelector()
    clients: dict[int, socket.socket] = {}  # by the process numbers of their ranks
    ends: dict[int, int] = {}  # a descriptor of each rank
    for source in (listening, sys.stdin):
        watched.register(source, selectors.EVENT_READ)
    while True:
        for key, _ in watched.select():
            if key.fileobj is sys.stdin:
                if is_left_alone(listening.getsockname(), lock):
                    return ""
            elif key.fileobj is listening:
                watched.register(listening.accept()[0], selectors.EVENT_READ, "asks")
            elif key.data == "asks":
                client: Any = key.fileobj
                watched.unregister(client)
                if (request := request_of(client)) is None:
                    continue
                process = os.fork()
                if process == 0:
                    close(client, *(each.fileobj for each in watched.get_map().values()))
                    watched.close()
                    become(request, environment)
                    return request.argv[0]
                close(*request.descriptors.values())
                tell(client, process)
                clients[process], ends[process] = client, os.pidfd_open(process)
                for source in (client, ends[process]):
                    watched.register(source, selectors.EVENT_READ, process)
            elif key.data in clients:  # the first of its two
                client, end = clients.pop(key.data), ends.pop(key.data)
                if key.fileobj is client:
                    os.kill(key.data, signal.SIGKILL)
                tell(client, os.waitpid(key.data, 0)[1])
                for source in (client, end):
                    watched.unregister(source)
                close(client, end)


def tell(client: socket.socket, number: int) -> None:
    """Tell a client, if it is there still."""
    with contextlib.suppress(OSError):
        client.send(str(number).encode())


def close(*sources: Any) -> None:
    """Close sockets and descriptors; standard input stays."""
    for source in sources:
        if isinstance(source, int):
            os.close(source)
        elif source is not sys.stdin:
            source.close()


def become(request: Request, environment: dict[str, str]) -> None:
    """Take over descriptors, environment, folder and arguments of a client."""
    high = {
        number: fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, FREE_DESCRIPTOR)
        for number, each in request.descriptors.items()
    }
    close(*request.descriptors.values())
    for number, descriptor in high.items():
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(environment | request.environment)
    # Held until this process is gone, however it ends.
    if "PRELOADED_ALIVE" in os.environ:
        fcntl.flock(os.open(os.environ["PRELOADED_ALIVE"], os.O_RDONLY), fcntl.LOCK_SH)
    # Those of libraries, torch's operators above all, would be worked off when the rank ends.
    for each in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        each.atexit = False
    os.chdir(request.folder)
    sys.argv = request.argv
    of_client = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = [os.path.dirname(sys.argv[0]), *filter(None, of_client)]  # noqa: PTH120
    # As Python does when it starts: workflow/fault_site/ has one.
    sys.modules.pop("sitecustomize", None)
    site.execsitecustomize()


def run(program: str) -> NoReturn:
    """Run a program, if there is one, and end as Python ends, but do not take the modules apart.

    That would copy the memory of all of them, for 0.3 s.
    """
    code: Any = None
    try:
        if program:
            runpy.run_path(program, run_name="__main__")
    except SystemExit as end:
        code = end.code
        if not isinstance(code, int | None):  # a message
            raise
    leave(code or 0)


def leave(code: int) -> NoReturn:
    """What Python does when it ends before it takes its modules apart, and MPI behind that."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    if "mpi4py.MPI" in sys.modules:
        from mpi4py import MPI

        if MPI.Is_initialized() and not MPI.Is_finalized():
            MPI.Finalize()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = 120
    LIBC.fflush(None)
    # What was asked of C since the libraries were loaded: MPICH takes its leave of mpirun.
    LIBC.exit(code)
    raise AssertionError("exit returned")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
