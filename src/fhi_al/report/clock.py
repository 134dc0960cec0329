"""Accounting of the wall time of rank 0.

Sections nest: time inside an inner one is not booked on the outer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

DFT, TRAINING, MD, WAITING = "DFT", "training", "MD", "waiting for labels"
SNAPSHOTS, OTHER = "snapshots", "everything else"
ACTIVITIES = (DFT, TRAINING, MD, WAITING, SNAPSHOTS, OTHER)


class Clock:
    """Books wall seconds on activities; what is in no section is booked on "everything else".

    Parameters
    ----------
    seconds : dict, optional
        What earlier launches of the run had booked.
    """

    def __init__(self, seconds: dict[str, float] | None = None) -> None:
        self._seconds = dict.fromkeys(ACTIVITIES, 0.0) | dict(seconds or {})
        self._earlier: dict[str, float] = {}
        self._open = [OTHER]
        self._listeners: list[Callable[[], None]] = []
        self._since = time.perf_counter()

    @contextmanager
    def section(self, activity: str) -> Iterator[None]:
        """Book the time inside on an activity."""
        self._book()
        self._open.append(activity)
        try:
            yield
        finally:
            self._book()
            self._open.pop()
        for listener in self._listeners:
            listener()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call a listener at the end of every section that ends without an error."""
        self._listeners.append(listener)

    def seconds(self) -> dict[str, float]:
        """Activity -> wall seconds up to now."""
        # Nothing is booked: another thread may ask.
        total = dict(self._seconds)
        total[self._open[-1]] += time.perf_counter() - self._since
        return total

    @property
    def activity(self) -> str:
        """What the time is booked on now."""
        return self._open[-1]

    def in_this_launch(self) -> dict[str, float]:
        """Activity -> wall seconds up to now, without those of earlier launches."""
        earlier = self._earlier
        return {name: total - earlier.get(name, 0.0) for name, total in self.seconds().items()}

    def continue_from(self, seconds: dict[str, float]) -> None:
        """Add what earlier launches had booked."""
        for activity, earlier in seconds.items():
            self._seconds[activity] = self._seconds.get(activity, 0.0) + earlier
            self._earlier[activity] = self._earlier.get(activity, 0.0) + earlier

    def _book(self) -> None:
        now = time.perf_counter()
        self._seconds[self._open[-1]] += now - self._since
        self._since = now
