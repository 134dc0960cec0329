"""The uncertainty above which a structure needs DFT: a moving average.  Pure: standard library."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ThresholdRule:
    """Settings of the threshold.

    Parameters
    ----------
    c_x : float
        Threshold = moving average x (1 - c_x); below 1.
    warmup : int
        Estimates needed before anything triggers.
    window : int
        Estimates the moving average runs over.
    """

    c_x: float
    warmup: int = 10
    window: int = 400


@dataclass(frozen=True)
class MovingAverage:
    """The last values seen on all trajectories of one system, and how many there were in all."""

    values: tuple[float, ...] = ()
    seen: int = 0

    @property
    def mean(self) -> float | None:
        """Mean of the values held; None if there are none."""
        return sum(self.values) / len(self.values) if self.values else None


def observed(history: MovingAverage, value: float, window: int) -> MovingAverage:
    """The history with one more value, of which the last ``window`` are kept."""
    return MovingAverage((*history.values, value)[-window:], history.seen + 1)


def threshold(history: MovingAverage, rule: ThresholdRule) -> float | None:
    """Threshold in eV/A from a history with the current estimate in it; None while warming up."""
    if history.mean is None or history.seen < rule.warmup:
        return None
    return history.mean * (1.0 - rule.c_x)


def crosses(uncertainty: float, limit: float | None) -> bool:
    """Whether a structure needs DFT.  False while warming up (``limit`` None)."""
    return limit is not None and uncertainty > limit
