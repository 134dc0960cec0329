"""Neighbours of structures that move by small steps, from lists that reach farther than needed.

What is found does not depend on when a list was made: the pairs within the cutoff, in an order of
their own, as a search of the structure alone would find them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fhi_al.core.structure import Array
from fhi_al.models.graphs import Neighbours

# In A: how much farther than the cutoff a list reaches.  Ethanol at 500 K moves half of it in some
# 20 steps of 0.5 fs.
SKIN_A = 0.6

Periodic = tuple[bool, bool, bool]
# (positions in A, periodic directions, cell in A, cutoff in A) -> neighbours
SearchWithin = Callable[[Array, Periodic, Array, float], Neighbours]


@dataclass(frozen=True, eq=False)
class _List:
    """Pairs of atoms nearer than `reach` where the atoms were when it was made.

    Parameters
    ----------
    positions : (n_atoms, 3)
        In A.
    periodic : tuple of bool
    cell : (3, 3)
        In A.
    pairs : (2, n_pairs)
    unit_shifts : (n_pairs, 3)
    reach : float
        In A.
    """

    positions: Array
    periodic: Periodic
    cell: Array
    pairs: NDArray[np.int64]
    unit_shifts: Array
    reach: float

    def holds(self, positions: Array, periodic: Periodic, cell: Array, cutoff: float) -> bool:
        """Whether it has all pairs within a cutoff still.

        Two atoms that were `reach` apart are, in a cell that was strained by F since, at least
        `reach` times the smallest singular value of F apart, less what both have moved besides.
        """
        if len(positions) != len(self.positions) or periodic != self.periodic:
            return False
        carried, smallest = self.positions, 1.0
        if any(periodic) and (cell != self.cell).any():
            strain = np.linalg.solve(self.cell, cell)
            carried = self.positions @ strain
            smallest = float(np.linalg.svd(strain, compute_uv=False)[-1])
        farthest = float(np.sqrt(_squares(positions - carried).max()))
        return self.reach * smallest - 2 * farthest > cutoff

    def within(self, positions: Array, cell: Array, cutoff: float) -> Neighbours:
        """The pairs within a cutoff, and their shifts in this cell."""
        vectors = positions[self.pairs[1]] - positions[self.pairs[0]]
        if any(self.periodic):
            s = self.unit_shifts
            vectors += s[:, 0:1] * cell[0] + s[:, 1:2] * cell[1] + s[:, 2:3] * cell[2]
        near = (_squares(vectors) < cutoff**2).nonzero()[0]
        # The cell of a molecule counts for nothing, but must have a volume.
        own = cell if any(self.periodic) else np.eye(3)
        return Neighbours(self.pairs.take(near, axis=1), self.unit_shifts[near], own)


class NeighbourLists:
    """Lists of moving structures, by their places among those that move together.

    Parameters
    ----------
    search : callable
    cutoff : float
        In A.
    skin : float
        In A.

    Attributes
    ----------
    n_searches : int
        How often a list was made.
    """

    def __init__(self, search: SearchWithin, cutoff: float, skin: float = SKIN_A) -> None:
        self.n_searches = 0
        self._search, self._cutoff, self._skin = search, cutoff, skin
        self._lists: dict[int, _List] = {}

    def neighbours(
        self, place: int, positions: Array, periodic: Periodic, cell: Array
    ) -> Neighbours:
        """Directed pairs within the cutoff; the list is made anew if it may lack one.

        Parameters
        ----------
        place : int
            Whose list; that of another structure is noticed, and made anew.
        positions : (n_atoms, 3)
            In A.
        periodic : tuple of bool
        cell : (3, 3)
            In A.
        """
        kept = self._lists.get(place)
        if kept is None or not kept.holds(positions, periodic, cell, self._cutoff):
            kept = self._lists[place] = self._made(positions, periodic, cell)
        return kept.within(positions, cell, self._cutoff)

    def _made(self, positions: Array, periodic: Periodic, cell: Array) -> _List:
        self.n_searches += 1
        reach = self._cutoff + self._skin
        # A search may write into the cell.
        found = self._search(positions, periodic, cell.copy(), reach)
        pairs = np.asarray(found.pairs, dtype=np.int64)
        shifts = np.asarray(found.unit_shifts, dtype=np.float64)
        order = np.lexsort((*shifts.T[::-1], pairs[1], pairs[0]))
        return _List(positions.copy(), periodic, cell.copy(), pairs[:, order], shifts[order], reach)


def _squares(vectors: Array) -> Array:
    squares: Array = np.einsum("ij,ij->i", vectors, vectors)
    return squares
