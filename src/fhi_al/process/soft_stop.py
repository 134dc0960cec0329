"""Stop a run on request: a signal, a file ``STOP``, or the wall-time limit.

Owns the signal handlers.  Nothing is interrupted: whoever drives asks between two steps.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType

# SIGUSR1 is what Slurm's --signal=USR1@300 sends before the time limit.
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
STOP_FILE = "STOP"


class Stopped(Exception):
    """The run was asked to stop, and has; the same command continues it."""


def leave_signals_to_rank_0() -> None:
    """On a serving rank: stay alive, so that rank 0 can finish the step and write a snapshot."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class SoftStop:
    """Knows whether the run was asked to stop.

    Parameters
    ----------
    folder : Path
        The run's folder; a file ``STOP`` in it is a request, and is removed when it is heard.
    walltime_limit_s : float or None
        Seconds after which to stop, from now on.
    """

    def __init__(self, folder: Path, walltime_limit_s: float | None = None) -> None:
        self._file = folder / STOP_FILE
        self._limit_s = walltime_limit_s
        self._started = time.monotonic()
        self._heard: str | None = None
        for number in SIGNALS:
            signal.signal(number, self._hear)

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
            self._file.unlink()
            return f"the file {STOP_FILE}"
        elapsed_s = time.monotonic() - self._started
        if self._limit_s is not None and elapsed_s > self._limit_s:
            return f"{elapsed_s:.0f} s have passed (MISC.walltime_limit = {self._limit_s:g} s)"
        return None

    def _hear(self, number: int, frame: FrameType | None) -> None:
        # Sets a flag and no more: logging from inside logging would raise.
        if self._heard is None:
            self._heard = signal.Signals(number).name
