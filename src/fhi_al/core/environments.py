"""Descriptors of atoms that need no model: how their neighbours are spread.  Pure: numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fhi_al.core.neighbours import neighbours_within
from fhi_al.core.structure import Array

_N_FUNCTIONS = 10
_SHORTEST = 0.5  # A
# Of the numbers that are held at a time: 32 MB.
_AT_ONCE = 400_000


def radial_descriptors(
    numbers: NDArray[np.int64],
    positions: Array,
    cell: Array,
    pbc: bool,
    elements: Sequence[int],
    cutoff: float,
) -> Array:
    """Smooth histograms of the distances of each atom's neighbours, one for each element.

    Parameters
    ----------
    numbers : (n_atoms,)
        Atomic numbers.
    positions : (n_atoms, 3)
        In A.
    cell : (3, 3)
        In A.
    pbc : bool
    elements : sequence of int
        Atomic numbers that neighbours may have.
    cutoff : float
        In A; every function ends there smoothly.

    Returns
    -------
    (n_atoms, n_elements * 10)
        The same however the structure is turned or shifted.
    """
    first, second, distances = neighbours_within(positions, cell, pbc, cutoff)
    centres = np.linspace(_SHORTEST, cutoff, _N_FUNCTIONS)
    width = centres[1] - centres[0]
    places = np.searchsorted(np.array(elements), numbers)
    found = np.zeros((len(numbers) * len(elements), _N_FUNCTIONS))
    rows = first * len(elements) + places[second]
    for start in range(0, len(distances), _AT_ONCE // _N_FUNCTIONS):
        some = slice(start, start + _AT_ONCE // _N_FUNCTIONS)
        d = distances[some, None]
        end = 0.5 * (1.0 + np.cos(np.pi * d / cutoff))
        values = end * np.exp(-np.square((d - centres) / width))
        for k in range(_N_FUNCTIONS):
            found[:, k] += np.bincount(rows[some], values[:, k], minlength=len(found))
    histograms: Array = found.reshape(len(numbers), -1)
    return histograms
