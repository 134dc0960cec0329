"""How many structures test the final models, and which.  Pure: numpy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

# Of each system: a force MAE over ten structures is known to some 20 % to 30 %; more would be worth
# training on.
MOST_LABELS = 10
LABELS_PER_TEST_LABEL = 10
# Blocks of MD before a structure is taken, and after that at least.
BLOCKS_BEFORE = 10
LEAST_BLOCKS = 20
# Structures to choose from.  The fewer atoms, the fewer modes, the wider errors are spread: of a
# water molecule at 200 K the worst of 100 structures had six times the mean.
CANDIDATES_PER_LABEL = 15
ATOMS_OF_CANDIDATES = 450


def n_test_labels(wanted: int | Literal["auto"], n_computed: int, n_systems: int = 1) -> int:
    """Labels for the test of the final models.

    Parameters
    ----------
    wanted : int or "auto"
        ``auto``: one for each ten that were computed, at most ten for each system.
    n_computed : int
        Labels computed before, or all that may be computed.
    n_systems : int
        Systems that have trajectories.
    """
    if wanted == "auto":
        return min(MOST_LABELS * n_systems, n_computed // LABELS_PER_TEST_LABEL)
    return wanted


def n_blocks(n_labels: int, n_trajectories: int, n_atoms: int) -> int:
    """Blocks of MD of each trajectory, at the end of each of which a structure may be taken.

    Parameters
    ----------
    n_labels, n_trajectories : int
    n_atoms : int
        Of the smallest system.
    """
    n = min(CANDIDATES_PER_LABEL * n_labels, ATOMS_OF_CANDIDATES // n_atoms)
    return BLOCKS_BEFORE + max(LEAST_BLOCKS, -(-n // n_trajectories))


def shared_out(n: int, sizes: Sequence[int]) -> list[int]:
    """`n` things shared out in proportion to sizes, at least one to each as long as there are any.

    Parameters
    ----------
    n : int
    sizes : sequence of int
        Above zero; of equal ones the first counts as larger.  If there are none, nobody gets any.
    """
    if not sizes:
        return []
    largest_first = sorted(range(len(sizes)), key=lambda k: -sizes[k])
    counts = [0] * len(sizes)
    for k in largest_first[:n]:
        counts[k] = 1
    total = sum(sizes)
    for _ in range(n - sum(counts)):
        behind = [n * size / total - count for size, count in zip(sizes, counts, strict=True)]
        counts[behind.index(max(behind))] += 1
    return counts


def drawn(sizes: Sequence[float], n: int, generator: np.random.Generator) -> list[int]:
    """A systematic sample with probabilities proportional to size.

    Errors are about proportional to uncertainties, and a few structures have most of both: drawn in
    proportion to their uncertainty they say more of the mean error than any others would.

    Parameters
    ----------
    sizes : sequence of float
        Not negative.
    n : int
        At most so many are drawn; fewer if one would be drawn twice.
    generator : numpy.random.Generator

    Returns
    -------
    list of int
        Places in ``sizes``, in ascending order.

    Notes
    -----
    W. G. Cochran, Sampling Techniques, 3rd ed. (Wiley 1977), section 9A: the mean of a quantity y
    is the mean over the sample of mean(size) * y / size; see :func:`mean_of_drawn`.
    """
    if not len(sizes):
        return []
    array = np.asarray(sizes, dtype=float)
    if not array.any():
        array = np.ones_like(array)
    order = np.argsort(array, kind="stable")
    ends = np.cumsum(array[order])
    marks = (generator.random() + np.arange(n)) * ends[-1] / n
    places = np.minimum(np.searchsorted(ends, marks, side="right"), len(order) - 1)
    return sorted({int(order[place]) for place in places})


def mean_of_drawn(
    values: Sequence[float], sizes: Sequence[float], mean_size: float
) -> tuple[float, float]:
    """Mean of a quantity over all that a sample was drawn from, and its standard error.

    Parameters
    ----------
    values : sequence of float
        Of the structures in the sample, at least one.
    sizes : sequence of float
        Theirs.
    mean_size : float
        Of all.

    Returns
    -------
    tuple of float
        The standard error is inf of a single structure.
    """
    ratios = np.ones(len(sizes))
    if mean_size > 0:
        ratios = mean_size / np.asarray(sizes)
    weighted = ratios * np.asarray(values)
    if len(weighted) == 1:
        return float(weighted[0]), math.inf
    return float(weighted.mean()), float(weighted.std(ddof=1) / math.sqrt(len(weighted)))
