"""Faults at exact points of a program that knows nothing of them; Python imports this at its start.

Only with this folder on PYTHONPATH, and driven by the environment:

KILL_AT_STEP=k    SIGKILL to this process before the k-th file-system call of a snapshot's write
KILL_IN_WRITE=m   of the m-th such write of the process (default: the first)
STEPS_LOG=file    one line per file-system call of that write, the last one being the deadly one
FAIL_ON_RANK=r    on this rank of MPI ...
FAIL_AT_CHDIR=n   ... the n-th os.chdir raises (asi4py changes the folder in every call)
FAIL_ON_SIGUSR2=1 ... or whatever Python code runs raises when SIGUSR2 arrives
"""

from __future__ import annotations

import io
import os
import signal
import sys
from types import FrameType
from typing import Any

TEMPORARY = ".snapshot-"
CALLS = {
    *("open", "write", "flush", "fsync", "truncate", "close"),
    *("mkdir", "rename", "replace", "remove", "unlink", "rmdir"),
}


class SnapshotWrites:
    """Counts the file-system calls from the first of a snapshot's write to its return."""

    def __init__(self, kill_at: int, write: int, log: str | None) -> None:
        self._kill_at = kill_at
        self._writes_ahead = write
        self._log = log
        self._n_steps = 0
        self._watching = False

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit event: does a write begin here?"""
        if self._watching or event not in ("os.mkdir", "shutil.rmtree"):
            return
        if not os.path.basename(os.fspath(arguments[0])).startswith(TEMPORARY):  # noqa: PTH119
            return
        self._watching = True
        self._writes_ahead -= 1
        if self._writes_ahead == 0:
            self._step(event)
        sys.setprofile(self._profile)

    def _profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "return" and frame.f_code.co_name == "write_snapshot":
            sys.setprofile(None)
            self._watching = False
        elif event == "c_call" and self._writes_ahead == 0 and _is_of_the_file_system(argument):
            self._step(argument.__name__)

    def _step(self, name: str) -> None:
        self._n_steps += 1
        if self._log is not None:
            descriptor = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(descriptor, f"{name}\n".encode())
            os.close(descriptor)
        if self._n_steps == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def _is_of_the_file_system(function: Any) -> bool:
    if getattr(function, "__name__", "") not in CALLS:
        return False
    owner = getattr(function, "__self__", None)
    return isinstance(owner, io.IOBase) or getattr(function, "__module__", "") in (
        "posix",
        "io",
        "_io",
    )


class ChangesOfFolder:
    """Raises at the n-th os.chdir."""

    def __init__(self, fail_at: int) -> None:
        self._ahead = fail_at

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit event: an exception here is the call's."""
        if event == "os.chdir":
            self._ahead -= 1
            if self._ahead == 0:
                raise RuntimeError("a fault was injected into os.chdir")


def _raise(number: int, frame: FrameType | None) -> None:
    raise RuntimeError("a fault was injected by SIGUSR2")


if "KILL_AT_STEP" in os.environ:
    sys.addaudithook(
        SnapshotWrites(
            int(os.environ["KILL_AT_STEP"]),
            int(os.environ.get("KILL_IN_WRITE", "1")),
            os.environ.get("STEPS_LOG"),
        ).hear
    )
if os.environ.get("FAIL_ON_RANK", "none") == os.environ.get("PMI_RANK", "0"):
    if "FAIL_AT_CHDIR" in os.environ:
        sys.addaudithook(ChangesOfFolder(int(os.environ["FAIL_AT_CHDIR"])).hear)
    if "FAIL_ON_SIGUSR2" in os.environ:
        signal.signal(signal.SIGUSR2, _raise)
