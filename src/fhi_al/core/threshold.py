"""The uncertainty above which a structure needs DFT, from those seen before it.

A moving average or a quantile of the recent ones.  Pure: standard library.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

ThresholdType = Literal["moving_average", "quantile"]


@dataclass(frozen=True)
class ThresholdRule:
    """Settings of the threshold.

    Parameters
    ----------
    c_x : float
        Threshold = (moving average or quantile) x (1 - c_x); below 1.
    warmup : int
        Estimates needed before anything triggers.
    window : int
        Estimates the moving average or quantile runs over.
    kind : {"moving_average", "quantile"}
    quantile : float
        Between 0 and 1: the share of the estimates that lies below it.
    largest : float
        Most that moving average or quantile count as, in units of the rms of the reference forces;
        inf for no bound.
    """

    c_x: float
    warmup: int = 10
    window: int = 400
    kind: ThresholdType = "moving_average"
    quantile: float = 0.95
    largest: float = math.inf


@dataclass(frozen=True)
class MovingAverage:
    """The last values seen on all trajectories of one system, and how many there were in all."""

    values: tuple[float, ...] = ()
    seen: int = 0

    @property
    def mean(self) -> float | None:
        """Mean of the values held; None if there are none."""
        return sum(self.values) / len(self.values) if self.values else None

    def quantile(self, share: float) -> float | None:
        """Value below which ``share`` of those held lies, interpolated; None if there are none."""
        if not self.values:
            return None
        ordered = sorted(self.values)
        place = share * (len(ordered) - 1)
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def observed(history: MovingAverage, value: float, window: int) -> MovingAverage:
    """The history with one more value, of which the last ``window`` are kept."""
    return MovingAverage((*history.values, value)[-window:], history.seen + 1)


def threshold(
    history: MovingAverage, rule: ThresholdRule, largest: float = math.inf
) -> float | None:
    """Threshold in eV/A from a history with the current estimate in it; None while warming up.

    Parameters
    ----------
    history : MovingAverage
    rule : ThresholdRule
    largest : float
        Moving average or quantile count as this if they are larger, in eV/A, and while warming up
        if it is finite.  What models that know nothing disagree by, on the average, would else
        pass as ordinary.
    """
    typical = history.quantile(rule.quantile) if rule.kind == "quantile" else history.mean
    if typical is None or history.seen < rule.warmup:
        if math.isinf(largest):
            return None
        typical = largest
    return min(typical, largest) * (1.0 - rule.c_x)


def crosses(uncertainty: float, limit: float | None) -> bool:
    """Whether a structure needs DFT.  False while warming up (``limit`` None)."""
    return limit is not None and uncertainty > limit
