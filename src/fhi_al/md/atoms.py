"""From our structures to ASE's Atoms, constraints included."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from fhi_al.core.structure import Array, Structure

if TYPE_CHECKING:
    from ase.constraints import FixConstraint


def atoms_of(structure: Structure, positions: Array | None = None) -> Atoms:
    """ASE Atoms of a structure, with its masses, and its fixed coordinates as constraints.

    Parameters
    ----------
    structure : Structure
    positions : (n_atoms, 3), optional
        In A, instead of the structure's own.
    """
    atoms = Atoms(
        numbers=structure.numbers,
        positions=structure.positions if positions is None else positions,
        cell=structure.cell if structure.pbc else None,
        pbc=structure.pbc,
        masses=structure.masses,
    )
    atoms.set_constraint(constraints_of(structure))
    return atoms


def constraints_of(structure: Structure) -> list[FixConstraint]:
    """ASE constraints that keep the fixed coordinates of a structure."""
    fixed = structure.fixed
    if not fixed.any():
        return []
    # Late: ase.constraints takes half of a second (it imports spacegroups, k points, scipy).
    from ase.constraints import FixAtoms, FixCartesian

    constraints: list[FixConstraint] = []
    whole = np.flatnonzero(fixed.all(axis=1))
    if len(whole):
        constraints.append(FixAtoms(indices=whole))
    for mask in np.unique(fixed, axis=0):
        if mask.any() and not mask.all():
            atoms = np.flatnonzero((fixed == mask).all(axis=1))
            constraints.append(FixCartesian(atoms, mask=mask))
    return constraints


def radii_of(structure: Structure) -> Array:
    """Covalent radii in A, one per atom (Cordero et al., as tabulated in ASE)."""
    return np.asarray(covalent_radii[structure.numbers], dtype=np.float64)
