"""A label of an ASE structure whose energy and forces are known.  Imports nothing heavy."""

from __future__ import annotations

from typing import Any

import numpy as np

from fhi_al.core.label import Label, Origin
from fhi_al.core.structure import geometry_key


def label_of(atoms: Any, energy: float, forces: Any, origin: Origin) -> Label:
    """Of the only system, without a stress.

    Parameters
    ----------
    atoms : ase.Atoms
    energy : float
        In eV.
    forces : (n_atoms, 3)
        In eV/A.
    origin : Origin
    """
    cell = np.array(atoms.cell.array, dtype=float)
    return Label(
        key=geometry_key(0, atoms.positions, cell),
        system=0,
        numbers=atoms.numbers.copy(),
        positions=atoms.positions.copy(),
        cell=cell,
        pbc=bool(atoms.pbc.any()),
        energy=float(energy),
        forces=np.array(forces),
        stress=None,
        origin=origin,
    )
