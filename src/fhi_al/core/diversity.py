"""Distances of structures of the same atoms, by descriptors of the atoms.  Pure: numpy.

Distances are in units of the scatter of the stored structures: 1 is how far an atom's descriptor
is, in the root mean square, from that atom's average over them.  Nothing depends on the order of
atoms of one species, nor on how a structure is turned or shifted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fhi_al.core.structure import Array

# Numbers compared at a time: 32 MB.
_MOST_AT_ONCE = 4_000_000
# Of the whole scatter: an element whose atoms do not move at all must not divide by zero.
_LEAST_SCATTER = 1e-6
# Of the descriptors themselves: what varies less does not vary.
_ROUNDING = 1e-6


def scatter(features: Array, numbers: NDArray[np.int64]) -> Array | None:
    """By how much the descriptors of each atom vary.

    Parameters
    ----------
    features : (n_structures, n_atoms, n_features)
        Of stored structures.
    numbers : (n_atoms,)
        Atomic numbers, the same in all of them.

    Returns
    -------
    (n_atoms,) or None
        Distance from the atom's own average, in the root mean square over structures and the
        atoms of an element; None if nothing varies or there are fewer than two structures.
    """
    if len(features) < 2:
        return None
    # The atom's own average: two sites of an element differ always, however still the atoms are.
    squares = np.square(features - features.mean(axis=0)).sum(axis=2).sum(axis=0)
    squares /= len(features) - 1
    whole = np.sqrt(squares.mean())
    # Equal structures differ in the last bits, of float32 models too.
    if not whole > _ROUNDING * np.sqrt(np.square(features).sum(axis=2).mean()):
        return None
    result = np.empty(len(numbers))
    for element in np.unique(numbers):
        result[numbers == element] = np.sqrt(squares[numbers == element].mean())
    bounded: Array = np.maximum(result, _LEAST_SCATTER * whole)
    return bounded


def fingerprints(features: Array, numbers: NDArray[np.int64]) -> Array:
    """Structures as points whose distance is a distance of structures.

    Parameters
    ----------
    features : (n_structures, n_atoms, n_features)
        Divided by :func:`scatter`.
    numbers : (n_atoms,)

    Returns
    -------
    (n_structures, n_atoms * n_features)
        Each feature sorted within the atoms of an element.

    Notes
    -----
    The distance of two fingerprints is at most the root mean square, over the atoms, of the
    distance in the best assignment of atoms to atoms: sorting is the best assignment for one
    feature alone.  Two structures of distance zero may therefore differ, if their features are the
    same numbers assigned to other atoms; :func:`atoms_distance` tells them apart.
    """
    blocks = [np.sort(features[:, numbers == element], axis=1) for element in np.unique(numbers)]
    ordered = np.concatenate(blocks, axis=1) / np.sqrt(len(numbers))
    flat: Array = ordered.reshape(len(features), -1)
    return flat


def atoms_distance(one: Array, other: Array, numbers: NDArray[np.int64]) -> float:
    """How different the most different atom is.

    Parameters
    ----------
    one, other : (n_atoms, n_features)
        Divided by :func:`scatter`.
    numbers : (n_atoms,)

    Returns
    -------
    float
        The largest distance of an atom of either structure from the atom of the other, of the same
        element, that is most like it.
    """
    largest = 0.0
    for element in np.unique(numbers):
        here, there = one[numbers == element], other[numbers == element]
        nearest_there = np.full(len(there), np.inf)
        # Row by row: all pairs of 20,000 atoms would take 3 GB.
        for atom in here:
            # By differences: with scalar products close pairs would lose half their digits.
            squares = np.square(there - atom).sum(axis=1)
            largest = max(largest, squares.min())
            np.minimum(nearest_there, squares, out=nearest_there)
        largest = max(largest, nearest_there.max())
    return float(np.sqrt(largest))


def distances(point: Array, others: Array) -> Array:
    """From a fingerprint (n_numbers,) to others (n_structures, n_numbers); (n_structures,)."""
    step = max(1, _MOST_AT_ONCE // max(1, point.size))
    parts = [
        np.square(others[first : first + step] - point).sum(axis=1)
        for first in range(0, len(others), step)
    ]
    result: Array = np.sqrt(np.concatenate(parts)) if parts else np.empty(0)
    return result


Described = tuple[Array, Array]


def nearest_duplicate(
    one: Described, others: Described, numbers: NDArray[np.int64], limit: float
) -> float | None:
    """How far the most similar of other structures is, if it is a near-duplicate.

    Parameters
    ----------
    one : (n_atoms, n_features) and (n_numbers,)
        Features divided by :func:`scatter`, and the fingerprint.
    others : (n_structures, n_atoms, n_features) and (n_structures, n_numbers)
        Likewise.
    numbers : (n_atoms,)
    limit : float
        Near-duplicates have no atom that differs by more (:func:`atoms_distance`), and
        fingerprints that are no farther apart.

    Returns
    -------
    float or None
        The distance of the most different atom; None if there is no near-duplicate.
    """
    close = np.flatnonzero(distances(one[1], others[1]) <= limit)
    close_ones = [atoms_distance(one[0], others[0][k], numbers) for k in close]
    return min((distance for distance in close_ones if distance <= limit), default=None)


def fingerprints_of_any(
    features: Sequence[Array], numbers: Sequence[NDArray[np.int64]], n_quantiles: int = 5
) -> Array:
    """Structures of any composition as points whose distance is a distance of structures.

    Parameters
    ----------
    features : sequence of (n_atoms, n_features)
        Of each structure's atoms; the same features in all.
    numbers : sequence of (n_atoms,)
        Atomic numbers.
    n_quantiles : int
        Numbers that describe the distribution of a feature over the atoms of an element.

    Returns
    -------
    (n_structures, n_elements * n_quantiles * n_features)

    Notes
    -----
    As :func:`fingerprints`, with evenly spread quantiles of each feature in place of all sorted
    values, so that numbers of atoms may differ.  The features of an element are divided by their
    scatter over all its atoms, and its block is weighted by the root of its share of the atoms: the
    squared distance of two structures of one composition is a mean over the atoms.
    """
    elements = np.unique(np.concatenate(numbers))
    at = np.linspace(0.0, 1.0, n_quantiles)
    n_features = features[0].shape[1]
    points = np.zeros((len(features), len(elements), n_quantiles, n_features))
    for place, element in enumerate(elements):
        of_element = [each[n == element] for each, n in zip(features, numbers, strict=True)]
        together = np.concatenate(of_element)
        middle = together.mean(axis=0)
        scale = np.sqrt(np.square(together - middle).sum(axis=1).mean())
        # Of an element that is the same everywhere only its share tells.
        size = np.sqrt(np.square(together).sum(axis=1).mean())
        scale = scale if scale > _ROUNDING * size else (size or 1.0)
        for k, some in enumerate(of_element):
            if len(some):
                share = np.sqrt(len(some) / len(numbers[k]) / n_quantiles)
                points[k, place] = share * np.quantile(some, at, axis=0) / scale
    flat: Array = points.reshape(len(features), -1)
    return flat


def farthest_first(points: Array, stored: Array, most: int | None = None) -> list[int]:
    """Order in which each point is the farthest from all before it and from the stored ones.

    Parameters
    ----------
    points : (n_points, n_numbers)
        Fingerprints.
    stored : (n_stored, n_numbers)
    most : int or None
        Only so many points; None for all.

    Returns
    -------
    list of int
        Indices of the points; of equally far ones the lower index first.
    """
    nearest = np.array([distances(point, stored).min(initial=np.inf) for point in points])
    order: list[int] = []
    left = np.ones(len(points), dtype=bool)
    while left.any() and (most is None or len(order) < most):
        chosen = int(np.argmax(np.where(left, nearest, -1.0)))
        order.append(chosen)
        left[chosen] = False
        nearest = np.minimum(nearest, distances(points[chosen], points))
    return order
