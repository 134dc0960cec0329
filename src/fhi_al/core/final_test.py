"""How many structures test the final models, and which.  Pure: numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

# A force MAE over ten structures is known to some 20 % to 30 %; more would be worth training on.
MOST_LABELS = 10
LABELS_PER_TEST_LABEL = 10


def n_test_labels(wanted: int | Literal["auto"], n_computed: int) -> int:
    """Labels for the test of the final models.

    Parameters
    ----------
    wanted : int or "auto"
        ``auto``: one for each ten that were computed, at most ten.
    n_computed : int
        Labels computed before, or all that may be computed.
    """
    if wanted == "auto":
        return min(MOST_LABELS, n_computed // LABELS_PER_TEST_LABEL)
    return wanted


def stratified(values: Sequence[float], n: int, generator: np.random.Generator) -> list[int]:
    """A random sample with one from each of ``n`` parts of equal size of the sorted values.

    Where an error goes with the values, its mean over the sample scatters less than that over
    structures drawn from all, and is unbiased like it.

    Parameters
    ----------
    values : sequence of float
    n : int
        At most as many as there are values are drawn.
    generator : numpy.random.Generator

    Returns
    -------
    list of int
        Places in ``values``, in ascending order.
    """
    order = np.argsort(values, kind="stable")
    parts = np.array_split(order, min(n, len(order))) if len(order) else []
    return sorted(int(generator.choice(part)) for part in parts)
