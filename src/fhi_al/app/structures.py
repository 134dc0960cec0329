"""ASE's Atoms as the geometry of a system."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from fhi_al.core.errors import InputError
from fhi_al.core.structure import structure
from fhi_al.engines.aims_input.geometry import Geometry


def geometry_of(atoms: Atoms, name: str) -> Geometry:
    """The geometry of a system.

    Parameters
    ----------
    atoms : ase.Atoms
        Its charges and magnetic moments are the initial ones; masses that were set are MD's.
    name : str
        What messages call it.

    Raises
    ------
    InputError
        If it is periodic in some directions only, or has constraints other than fixed coordinates.
    """
    if atoms.pbc.any() and not atoms.pbc.all():
        message = f"pbc = {atoms.pbc.tolist()}: expected periodic in all three directions or none"
        raise InputError([f"{name}: {message}. Add vacuum and set pbc=True for a surface."])
    made = structure(
        atoms.numbers,
        atoms.positions,
        cell=np.array(atoms.cell) if atoms.pbc.all() else None,
        fixed=_fixed(atoms, name),
        initial_moments=atoms.get_initial_magnetic_moments(),
        initial_charges=atoms.get_initial_charges(),
        masses=atoms.get_masses() if atoms.has("masses") else None,
    )
    symbols = tuple(atoms.get_chemical_symbols())
    return Geometry(Path(name), made, symbols, ((),) * len(atoms), ())


def _fixed(atoms: Atoms, name: str) -> NDArray[np.bool_]:
    """(n_atoms, 3) Which coordinates the constraints keep."""
    fixed = np.zeros((len(atoms), 3), dtype=bool)
    if not atoms.constraints:
        return fixed
    # Late: see md/atoms.py.
    from ase.constraints import FixAtoms, FixCartesian

    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            fixed[constraint.index] = True
        elif isinstance(constraint, FixCartesian):
            fixed[constraint.index] |= np.asarray(constraint.mask, dtype=bool)
        else:
            kind = type(constraint).__name__
            raise InputError(
                [f"{name}: constraint {kind}: expected FixAtoms or FixCartesian. Remove it."]
            )
    return fixed
