"""Stop a run on request: a signal, a file ``STOP``, or the wall-time limit.

Owns the signal handlers, and puts back those that were there.  Nothing is interrupted: whoever
drives asks between two steps.
"""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType

# SIGUSR1 is what Slurm's --signal=USR1@300 sends before the time limit, SIGHUP what comes when the
# terminal is closed; nohup lets it be ignored.
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
STOP_FILE = "STOP"
_LARGEST_SIGACTION = 512  # bytes of a struct sigaction; Linux: 152


class Stopped(Exception):
    """The run was asked to stop, and has; the same command continues it."""


def signals_left_to_rank_0() -> AbstractContextManager[None]:
    """On a serving rank: stay alive, so that rank 0 can finish the step and write a snapshot."""
    return _handlers(signal.SIG_IGN)


@contextmanager
def _handlers(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        # Python lets no other thread set handlers; the file STOP and the limit are heard all the
        # same.
        yield
        return
    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
    before = {number: _Handler(number) for number in SIGNALS if number not in ignored}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for old in before.values():
            old.put_back()


class _Handler:
    """The handler of a signal, as Python knows it and as the system does.

    A library may have set one that Python does not know of.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._of_python = signal.getsignal(number)
        self._libc = ctypes.CDLL(None)
        self._action = ctypes.create_string_buffer(_LARGEST_SIGACTION)
        self._libc.sigaction(number, None, self._action)

    def put_back(self) -> None:
        signal.signal(self._number, self._of_python or signal.SIG_DFL)
        self._libc.sigaction(self._number, self._action, None)


class SoftStop:
    """Knows whether the run was asked to stop.

    Parameters
    ----------
    folder : Path
        A file ``STOP`` in it is a request, and is removed when it is heard: a folder of this
        command alone, for another one that listened would take it away.
    walltime_limit_s : float or None
        Seconds after which to stop, from now on.
    """

    def __init__(self, folder: Path, walltime_limit_s: float | None = None) -> None:
        self._file = folder / STOP_FILE
        self._limit_s = walltime_limit_s
        self._started = time.monotonic()
        self._heard: str | None = None

    def listening(self) -> AbstractContextManager[None]:
        """Take the stop signals for requests."""
        return _handlers(self._hear)

    def reason(self) -> str | None:
        """Why to stop, in words; None if nobody asked."""
        if self._heard is None:
            other = self._other_request()
            if other is not None:  # None must not overwrite a signal that came meanwhile
                self._heard = other
        return self._heard

    def check(self) -> None:
        """Return unless asked to stop.

        Raises
        ------
        Stopped
            With the reason.
        """
        reason = self.reason()
        if reason is not None:
            raise Stopped(reason)

    def _other_request(self) -> str | None:
        if self._file.exists():
            self._file.unlink(missing_ok=True)
            return f"the file {STOP_FILE}"
        elapsed_s = time.monotonic() - self._started
        if self._limit_s is not None and elapsed_s > self._limit_s:
            return f"{elapsed_s:.0f} s have passed (MISC.walltime_limit = {self._limit_s:g} s)"
        return None

    def _hear(self, number: int, frame: FrameType | None) -> None:
        # Sets a flag and no more: logging from inside logging would raise.
        if self._heard is None:
            self._heard = signal.Signals(number).name
