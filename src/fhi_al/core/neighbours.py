"""Which atoms are near each other, in memory that grows with the atoms only.  Pure: numpy only.

Pairs come in blocks: their places `first` and `second`, and their distances in A.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fhi_al.core.structure import Array

Indices = NDArray[np.intp]
# first (n_pairs,), second (n_pairs,), distances (n_pairs,)
Pairs = tuple[Indices, Indices, Array]

# Pairs in a block: 60 MB of places, differences and distances.
AT_ONCE = 500_000
_IMAGES: NDArray[np.float64] = np.array(
    list(itertools.product((-1, 0, 1), repeat=3)), dtype=np.float64
)
# Times 27 images.
_IMAGES_AT_ONCE = 20_000
# Atoms of which all pairs are looked at in no more time than it takes to sort them into boxes.
_FEW, _FEW_IN_CELL = 250, 100
# The box of an atom and half of those around it: the other half has its pairs.
_BOXES = np.array([box for box in itertools.product((-1, 0, 1), repeat=3) if box >= (0, 0, 0)])
# So that, rounding or not, who is near is in the same box or in the next.
_WIDER = 1.0 + 1e-9
# Boxes along an axis: their numbers fit into an integer, however far apart atoms are.
_MOST_BOXES = 100_000


def molecule_pairs(positions: Array, within: float = np.inf) -> Iterator[Pairs]:
    """The pairs of atoms in a molecule that are nearer than a distance, and some others.

    Parameters
    ----------
    positions : (n_atoms, 3)
        In A.
    within : float
        In A.

    Yields
    ------
    first, second, distances
        Each pair once; `first` is below `second` where there are all pairs, which few atoms have in
        one block.
    """
    if len(positions) <= _FEW:
        first, second = _every_pair(len(positions))
        yield first, second, _lengths(positions[first] - positions[second])
        return
    spread = positions - positions.min(axis=0)
    width = np.maximum(within * _WIDER, spread.max(axis=0) / _MOST_BOXES)
    boxes = np.floor(spread / width).astype(np.int64)
    for first, second in _neighbouring_boxes(boxes, boxes.max(axis=0) + 1, periodic=False):
        yield first, second, _lengths(positions[first] - positions[second])


def close_pairs(positions: Array, cell: Array, within: float) -> Iterator[Pairs]:
    """The pairs of atoms in a crystal that are nearer than a short distance, and some others.

    Parameters
    ----------
    positions : (n_atoms, 3)
        In A.
    cell : (3, 3)
        Lattice vectors as rows, in A.
    within : float
        In A; less than half of :func:`shortest_height`, so that no atom is near its own images.

    Yields
    ------
    first, second, distances
        Each pair once.  Distances above `within` may be too long.

    Notes
    -----
    A vector shorter than half of every cell height has fractional coordinates below 1/2, so that
    rounding finds it.
    """
    inverse = np.linalg.inv(cell)
    fractional = positions @ inverse
    if len(positions) <= _FEW_IN_CELL:
        pairs = iter([_every_pair(len(positions))])
    else:
        heights = 1.0 / np.linalg.norm(inverse, axis=0)
        n_boxes = np.clip(heights / (within * _WIDER), 1, _MOST_BOXES).astype(np.int64)
        boxes = np.floor((fractional % 1.0) * n_boxes).astype(np.int64) % n_boxes
        pairs = _neighbouring_boxes(boxes, n_boxes, periodic=True)
    for first, second in pairs:
        difference = fractional[first] - fractional[second]
        yield first, second, _lengths((difference - np.round(difference)) @ cell)


def image_pairs(positions: Array, cell: Array) -> Iterator[Pairs]:
    """All pairs of atoms in a crystal at their shortest distance, an atom and its own image too.

    Parameters
    ----------
    positions : (n_atoms, 3)
        In A.
    cell : (3, 3)
        Lattice vectors as rows, in A.

    Yields
    ------
    first, second, distances
        Each pair once, `first` not above `second`.

    Notes
    -----
    Differences are first reduced to one cell, then the 27 cells around are searched, which is exact
    up to the shortest cell height; 100 atoms take 7 ms.
    """
    shifts = _IMAGES @ cell
    lattice = np.sum(shifts**2, axis=1)
    own = np.sqrt(lattice[lattice > 0].min())
    inverse = np.linalg.inv(cell)
    places = np.arange(len(positions))
    for first, second in _blocks(places, np.full_like(places, len(places)), _IMAGES_AT_ONCE):
        fractional = (positions[first] - positions[second]) @ inverse
        difference = (fractional - np.round(fractional)) @ cell
        distances = _lengths((difference[:, None, :] + shifts).reshape(-1, 3)).reshape(-1, 27)
        nearest = distances.min(axis=1)
        nearest[first == second] = own
        yield first, second, nearest


def neighbours_within(positions: Array, cell: Array, pbc: bool, cutoff: float) -> Pairs:
    """All neighbours of all atoms: each pair in both directions, every image of its own.

    Parameters
    ----------
    positions : (n_atoms, 3)
        In A.
    cell : (3, 3)
        Lattice vectors as rows, in A; not looked at for a molecule.
    pbc : bool
    cutoff : float
        In A.

    Returns
    -------
    first, second, distances
        (n_pairs,) each; distances are below `cutoff`.
    """
    if pbc and cutoff >= shortest_height(cell) / 2:
        return _images_within(positions, cell, cutoff)
    blocks = close_pairs(positions, cell, cutoff) if pbc else molecule_pairs(positions, cutoff)
    near = [(i[d < cutoff], j[d < cutoff], d[d < cutoff]) for i, j, d in blocks]
    first, second, distances = (np.concatenate(parts) for parts in zip(*near, strict=True))
    return (
        np.concatenate([first, second]),
        np.concatenate([second, first]),
        np.concatenate([distances, distances]),
    )


def _images_within(positions: Array, cell: Array, cutoff: float) -> Pairs:
    """Of a cell that is small for the cutoff: some images of it at a time."""
    inverse = np.linalg.inv(cell)
    fractional = positions @ inverse
    fractional -= np.floor(fractional)
    # Two atoms of one cell are less than a lattice vector apart.
    reach = np.floor(cutoff * np.linalg.norm(inverse, axis=0)).astype(int) + 1
    differences = (fractional[None, :] - fractional[:, None]) @ cell
    shifts = np.array(list(itertools.product(*(range(-n, n + 1) for n in reach.tolist()))))
    found: list[Pairs] = []
    step = max(1, AT_ONCE // len(positions) ** 2)
    for some in (shifts[at : at + step] for at in range(0, len(shifts), step)):
        vectors = differences + (some @ cell)[:, None, None, :]
        distances = np.sqrt(np.square(vectors).sum(axis=3))
        # No atom is its own neighbour, but its images are.
        image, first, second = np.nonzero((distances < cutoff) & (distances > 0.0))
        found.append((first, second, distances[image, first, second]))
    first, second, lengths = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return first, second, lengths


def shortest_height(cell: Array) -> float:
    """Smallest distance of two opposite faces of a cell, in A."""
    return float(heights(cell).min())


def heights(cell: Array) -> Array:
    """(3,) Distances between opposite faces of a cell (3, 3), lattice vectors as rows, in A."""
    found: Array = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    return found


def _lengths(vectors: Array) -> Array:
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", vectors, vectors)), dtype=np.float64)


@cache
def _every_pair(n_atoms: int) -> tuple[Indices, Indices]:
    return np.triu_indices(n_atoms, 1)


def _neighbouring_boxes(
    boxes: NDArray[np.int64], n_boxes: NDArray[np.int64], periodic: bool
) -> Iterator[tuple[Indices, Indices]]:
    """Pairs of atoms in the same box or in boxes that touch, each once.

    Parameters
    ----------
    boxes : (n_atoms, 3)
        The box of each atom along each axis, from 0.
    n_boxes : (3,)
    periodic : bool
        The last box along an axis touches the first.
    """
    # Of two periodic boxes each touches the other on both sides: taken for one box.
    boxes = np.where(n_boxes > (2 if periodic else 1), boxes, 0)
    n_boxes = np.where(n_boxes > (2 if periodic else 1), n_boxes, 1)
    offsets = _BOXES[~(_BOXES[:, n_boxes == 1].any(axis=1))]
    # Numbers along each axis from 1, and a rim that stays empty.
    strides = np.array([(n_boxes[1] + 2) * (n_boxes[2] + 2), n_boxes[2] + 2, 1])
    numbers = (boxes + 1) @ strides
    order = np.argsort(numbers, kind="stable")
    occupied, begins, counts = np.unique(numbers[order], return_index=True, return_counts=True)
    there = boxes[:, None, :] + offsets
    wanted = ((there % n_boxes if periodic else there) + 1) @ strides
    found = np.minimum(np.searchsorted(occupied, wanted), len(occupied) - 1)
    starts = begins[found]
    ends = np.where(occupied[found] == wanted, starts + counts[found], starts)
    # In its own box each atom is paired with those behind it.
    starts[order, 0] = np.arange(1, len(order) + 1)
    for first, second in _blocks(starts.ravel(), ends.ravel()):
        yield first // len(offsets), order[second]


def _blocks(
    starts: Indices, ends: Indices, at_once: int = AT_ONCE
) -> Iterator[tuple[Indices, Indices]]:
    """Each index with all numbers from its start up to its end, some of them at a time."""
    counts = ends - starts
    total = np.cumsum(counts)
    at = 0
    while at < len(counts):
        done = total[at - 1] if at else 0
        upto = max(at + 1, int(np.searchsorted(total, done + at_once, "right")))
        some = counts[at:upto]
        first = np.repeat(np.arange(at, upto), some)
        begins = np.cumsum(some) - some
        yield first, np.arange(len(first)) - np.repeat(begins, some) + starts[first]
        at = upto
