"""Watches a run from a thread of its own and shows what it is at, wherever that is wanted.

The run knows nothing of it: nothing here changes what it does, and no error here reaches it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from fhi_al.report.status import Status
from fhi_al.report.status_file import Outcome

log = logging.getLogger(__name__)

INTERVAL_S = 2.0


class Display(Protocol):
    """Where a status is shown."""

    @property
    def interval_s(self) -> float:
        """Seconds from one status to the next."""
        ...

    def show(self, status: Status) -> None:
        """Show the present status."""
        ...

    def end(self, status: Status, outcome: Outcome, message: str) -> None:
        """Show how it ended; nothing is shown any more."""
        ...


class Observer:
    """Shows the status of a run until it is closed.

    Parameters
    ----------
    status : callable
        (time in s) -> Status; asked from the observer's thread.
    displays : sequence of Display
    """

    def __init__(self, status: Callable[[float], Status], displays: Sequence[Display]) -> None:
        self._status = status
        self._displays = dict.fromkeys(displays, 0.0)
        self._ended = threading.Event()
        # A daemon: a process that ends in an unforeseen way does not wait for it.
        self._thread = threading.Thread(target=self._watch, name="observer", daemon=True)

    def start(self) -> None:
        """Begin to show."""
        self._show()
        self._thread.start()

    def close(self, outcome: Outcome, message: str) -> None:
        """Stop showing, and say how the run ended."""
        self._ended.set()
        self._thread.join()
        try:
            status = self._status(time.monotonic())
        except Exception as error:
            log.debug("status: %r", error)
            return
        for display in self._displays:
            self._guarded(display, partial(display.end, status, outcome, message))

    def _watch(self) -> None:
        shortest = min((display.interval_s for display in self._displays), default=INTERVAL_S)
        while not self._ended.wait(shortest):
            self._show()

    def _show(self) -> None:
        now = time.monotonic()
        due = [d for d, last in self._displays.items() if now - last >= 0.9 * d.interval_s]
        if not due:
            return
        try:
            status = self._status(now)
        # The run changes what is read: the next look will do.
        except Exception as error:
            log.debug("status: %r", error)
            return
        for display in due:
            self._displays[display] = now
            self._guarded(display, partial(display.show, status))

    def _guarded(self, display: Display, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # a full disk, a terminal that is gone
            log.debug("%s: %r", type(display).__name__, error)
