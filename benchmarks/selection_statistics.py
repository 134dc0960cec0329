"""Statistics of the label-efficiency and calibration benchmarks.  Pure: numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Bin:
    """Structures of similar uncertainty; means in eV/A."""

    n_structures: int
    uncertainty: float
    error: float


def labels_to_reach(n_labels: Sequence[int], errors: Sequence[float], target: float) -> float:
    """Number of labels at which a learning curve first meets an error.

    Parameters
    ----------
    n_labels : sequence of int
        Ascending.
    errors : sequence of float
        At these numbers of labels, in eV/A.
    target : float
        In eV/A.

    Returns
    -------
    float
        Between two points interpolated in the logarithms of both; the first number if the curve
        begins below the target (so it is an upper bound); NaN if it is never reached.
    """
    if errors[0] <= target:
        return float(n_labels[0])
    for k in range(1, len(errors)):
        if errors[k] <= target:
            ends = np.log(errors[k - 1]), np.log(errors[k])
            share = (ends[0] - np.log(target)) / (ends[0] - ends[1])
            low, high = np.log(n_labels[k - 1]), np.log(n_labels[k])
            return float(np.exp(low + share * (high - low)))
    return float("nan")


def worst_errors(errors: Array, share: float = 0.01) -> float:
    """Mean of the largest `share` of the errors, at least one of them."""
    n_worst = max(1, round(share * errors.size))
    return float(np.sort(errors, axis=None)[-n_worst:].mean())


def bins_of_equal_size(uncertainty: Array, error: Array, n_bins: int) -> list[Bin]:
    """Mean error of structures sorted by uncertainty, in bins that differ by at most one."""
    order = np.argsort(uncertainty, kind="stable")
    return [
        Bin(len(part), float(uncertainty[part].mean()), float(error[part].mean()))
        for part in np.array_split(order, n_bins)
        if len(part)
    ]
