"""Neighbours of a structure by ASE, for backends that have no search of their own."""

from __future__ import annotations

import numpy as np
from ase.neighborlist import primitive_neighbor_list

from fhi_al.core.structure import Array
from fhi_al.models.graphs import Neighbours


def neighbours(
    positions: Array, pbc: tuple[bool, bool, bool], cell: Array, cutoff: float
) -> Neighbours:
    """Directed pairs within a cutoff, an atom's own periodic images included.

    Parameters
    ----------
    positions : (n_atoms, 3)
        In A.
    pbc : tuple of bool
        Periodic directions.
    cell : (3, 3)
        In A.
    cutoff : float
        In A.
    """
    first, second, shifts = primitive_neighbor_list(
        "ijS", pbc, cell, positions, cutoff, self_interaction=False
    )
    return Neighbours(np.array([first, second]), shifts.reshape(-1, 3), cell)
