"""Calibration of uncertainties: true error = scale x uncertainty, and how well it is known.

Pure: numpy and the standard library.  Which structures may be used is the caller's affair: only
those chosen without regard to their uncertainty (see ``docs/explanation/calibration.md``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from fhi_al.core.structure import Array
from fhi_al.core.uncertainty import UncertaintyType

# A ratio of error to uncertainty counts as at most this many times the median one.  A single
# structure that the members agree on and are all wrong about would otherwise set the scale; for
# errors that are Gaussian in each component, the scale is 0.6 % lower by it, or less.
LARGEST_RATIO = 4.0
CONFIDENCE = 0.95
# An interval wider than this, upper over lower end, is no knowledge to base a threshold on.
WIDEST_INTERVAL = 2.0
# A change of the scale by this factor is logged.
MATERIAL_CHANGE = 1.2


@dataclass(frozen=True)
class Pairs:
    """The last uncertainties and true errors of the same structures, of one system.

    Parameters
    ----------
    values : tuple of (uncertainty, true error)
        In eV/A.
    seen : int
        How many there were in all.
    reported : float or None
        The scale as it was last logged; None while it is not good enough to be used.
    """

    values: tuple[tuple[float, float], ...] = ()
    seen: int = 0
    reported: float | None = None


@dataclass(frozen=True)
class Calibration:
    """True error ~ scale x uncertainty.

    Parameters
    ----------
    n_pairs : int
    scale, low, high : float
        Root mean square of error / uncertainty, and the ends of its 95 % interval.
    within_1, within_2 : float
        Coverage: share of the structures whose error is at most 1 and 2 times scale x uncertainty.
    pearson, spearman : float or None
        Correlation of uncertainty and error, and of their ranks; None if one of them is constant.
    """

    n_pairs: int
    scale: float
    low: float
    high: float
    within_1: float
    within_2: float
    pearson: float | None
    spearman: float | None


def with_pair(pairs: Pairs, uncertainty: float, error: float, window: int) -> Pairs:
    """The pairs with one more, of which the last ``window`` are kept.

    A pair without a ratio (not finite, or an uncertainty of 0) is left out.
    """
    if not (math.isfinite(uncertainty) and math.isfinite(error) and uncertainty > 0 and error >= 0):
        return pairs
    values = (*pairs.values, (uncertainty, error))[-window:]
    return Pairs(values, pairs.seen + 1, pairs.reported)


def calibration(values: Sequence[tuple[float, float]]) -> Calibration | None:
    """What pairs of uncertainty and true error say; None for fewer than two, or errors all zero.

    The scale is the maximum-likelihood one of errors whose variance is scale^2 uncertainty^2,
    with ratios cut off at ``LARGEST_RATIO`` medians.  The interval is Student's, for the logarithm
    of the mean squared ratio: no distribution of the errors is assumed, only pairs that do not
    depend on each other.
    """
    if len(values) < 2:
        return None
    uncertainty, error = np.array(values, dtype=float).T
    ratio = error / uncertainty
    median = float(np.median(ratio))
    # Half of them exactly right: a median of 0 would cut off all others.
    cut = np.minimum(ratio, LARGEST_RATIO * median) if median > 0 else ratio
    square = cut**2
    mean = float(square.mean())
    if mean == 0:
        return None
    scale = math.sqrt(mean)
    relative = float(square.std(ddof=1)) / mean / math.sqrt(len(square))
    half_width = 0.5 * _student(CONFIDENCE, len(square) - 1) * relative
    return Calibration(
        n_pairs=len(square),
        scale=scale,
        low=scale * math.exp(-half_width),
        high=scale * math.exp(half_width),
        within_1=float(np.mean(ratio <= scale)),
        within_2=float(np.mean(ratio <= 2 * scale)),
        pearson=_correlation(uncertainty, error),
        spearman=_correlation(_ranks(uncertainty), _ranks(error)),
    )


def is_usable(fit: Calibration | None, least_pairs: int) -> bool:
    """Whether a threshold may rest on a calibration: enough pairs and a narrow enough interval."""
    return fit is not None and fit.n_pairs >= least_pairs and fit.high <= WIDEST_INTERVAL * fit.low


def is_material(reported: float | None, scale: float | None) -> bool:
    """Whether a scale differs so much from the one logged last that it should be logged."""
    if reported is None or scale is None:
        return reported is not scale
    return not 1 / MATERIAL_CHANGE <= scale / reported <= MATERIAL_CHANGE


def default_limit(kind: UncertaintyType, desired_acc: float) -> float:
    """True error in eV/A above which a structure needs a label if the user names none.

    The errors of a structure on which the ensemble is just as good as wanted, were they Gaussian
    in each component: their MAE is ``desired_acc``, the root mean square 1.25 times that, and the
    largest of the atoms' errors, among 10 to 100 atoms, 1.9 to 2.6 times that MAE.  Somewhat more
    asks for labels where the ensemble is worse than wanted, and not everywhere.
    """
    return (3.0 if kind == "max_atomic_sd" else 1.5) * desired_acc


def describe(fit: Calibration) -> str:
    """A calibration as the log and the summary tell it."""
    rank = "" if fit.spearman is None else f", rank correlation {fit.spearman:.2f}"
    return (
        f"true error = {fit.scale:.3g} x uncertainty (95 % interval {fit.low:.3g} to "
        f"{fit.high:.3g}, {fit.n_pairs} sanity checks{rank}); {100 * fit.within_1:.0f} % of "
        f"the errors are within it, {100 * fit.within_2:.0f} % within twice that"
    )


def _student(confidence: float, freedom: int) -> float:
    """Two-sided quantile of Student's t: the expansion of Abramowitz and Stegun, 26.7.5.

    Off by less than 0.1 % from 8 degrees of freedom on.
    """
    z: float = NormalDist().inv_cdf(0.5 + 0.5 * confidence)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(z + sum(term / freedom**power for power, term in enumerate(terms, start=1)))


def _ranks(values: Array) -> Array:
    """Ranks from 0; equal values share the mean of theirs."""
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks: Array = (last - (count + 1) / 2)[group]
    return ranks


def _correlation(first: Array, second: Array) -> float | None:
    # Not by the norm below: the mean of equal numbers may differ from them in the last bit.
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    first, second = first - first.mean(), second - second.mean()
    return float(first @ second) / math.sqrt(float(first @ first) * float(second @ second))
