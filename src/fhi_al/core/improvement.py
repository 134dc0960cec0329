"""The best validation error so far: convergence and plateaus of training.  Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class BestError:
    """The best validation error so far and when it was seen.

    Parameters
    ----------
    best : float
        Lowest error in eV/A that counted as an improvement; inf before the first.
    best_epoch, epoch : int
        Epoch of that error, and the last epoch seen.
    """

    best: float = math.inf
    best_epoch: int = 0
    epoch: int = 0

    @property
    def epochs_without_improvement(self) -> int:
        """Epochs since the best error."""
        return self.epoch - self.best_epoch


def improves(best: float, error: float, margin: float) -> bool:
    """Whether ``error`` is lower than ``best`` by more than ``margin``; never for NaN."""
    return error < best - margin


def with_error(history: BestError, error: float, epoch: int, margin: float) -> BestError:
    """The history after an error (eV/A) was measured at an epoch."""
    if improves(history.best, error, margin):
        return BestError(error, epoch, epoch)
    return BestError(history.best, history.best_epoch, epoch)
