"""Progress lines for the terminal, no more than one in a while."""

from __future__ import annotations

import time

INTERVAL_S = 30.0


class Pulse:
    """Is due at most once per interval.

    Parameters
    ----------
    interval_s : float
        In seconds.
    """

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Whether the interval has passed since it was last due; begins the next one if so."""
        now = time.monotonic()
        if now - self._last < self._interval_s:
            return False
        self._last = now
        return True
