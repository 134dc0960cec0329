"""What a structure is: elements, positions, cell.  Pure: no torch, MPI, ASE or files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Structure:
    """One atomic structure.

    Parameters
    ----------
    numbers : (n_atoms,)
        Atomic numbers.
    positions : (n_atoms, 3)
        Cartesian positions in A.
    cell : (3, 3)
        Lattice vectors as rows in A; zeros for a molecule.
    pbc : bool
        True for a crystal (periodic in all three directions), False for a molecule.
    fixed : (n_atoms, 3)
        True where a Cartesian coordinate must not move in any MD.
    initial_moments, initial_charges : (n_atoms,)
        ``initial_moment`` (mu_B) and ``initial_charge`` (e) of geometry.in; zeros if not given.
    masses : (n_atoms,) or None
        In u, for MD; None for the standard masses of the elements.
    """

    numbers: NDArray[np.int64]
    positions: Array
    cell: Array
    pbc: bool
    fixed: NDArray[np.bool_]
    initial_moments: Array
    initial_charges: Array
    masses: Array | None = None

    def __post_init__(self) -> None:
        n_atoms = len(self.numbers)
        for name, shape in (
            ("positions", (n_atoms, 3)),
            ("cell", (3, 3)),
            ("fixed", (n_atoms, 3)),
            ("initial_moments", (n_atoms,)),
            ("initial_charges", (n_atoms,)),
        ):
            actual = getattr(self, name).shape
            if actual != shape:
                raise ValueError(f"Structure.{name} has shape {actual}, expected {shape}")
        if self.masses is not None:
            if self.masses.shape != (n_atoms,):
                actual = self.masses.shape
                raise ValueError(f"Structure.masses has shape {actual}, expected {(n_atoms,)}")
            if not (np.isfinite(self.masses).all() and (self.masses > 0).all()):
                raise ValueError("Structure.masses: expected finite numbers above zero")

    def __len__(self) -> int:
        return len(self.numbers)


def structure(
    numbers: NDArray[np.int64] | list[int],
    positions: Array | list[list[float]],
    cell: Array | None = None,
    fixed: NDArray[np.bool_] | None = None,
    initial_moments: Array | None = None,
    initial_charges: Array | None = None,
    masses: Array | None = None,
) -> Structure:
    """Build a :class:`Structure`, periodic if a cell is given.

    What else is left out is zero; masses are then the standard ones of the elements.
    """
    n_atoms = len(numbers)
    return Structure(
        numbers=np.asarray(numbers, dtype=np.int64),
        positions=np.array(positions, dtype=np.float64).reshape(n_atoms, 3),
        cell=np.zeros((3, 3)) if cell is None else np.array(cell, dtype=np.float64),
        pbc=cell is not None,
        fixed=np.zeros((n_atoms, 3), dtype=bool) if fixed is None else np.array(fixed, dtype=bool),
        initial_moments=np.zeros(n_atoms) if initial_moments is None else np.array(initial_moments),
        initial_charges=np.zeros(n_atoms) if initial_charges is None else np.array(initial_charges),
        masses=None if masses is None else np.array(masses, dtype=np.float64),
    )


def geometry_key(system: int, positions: Array, cell: Array) -> str:
    """Name of a geometry: equal exactly when system, positions and cell are equal bit by bit."""
    digest = hashlib.sha256()
    digest.update(np.int64(system).tobytes())
    digest.update(np.ascontiguousarray(positions, dtype=np.float64).tobytes())
    digest.update(np.ascontiguousarray(cell, dtype=np.float64).tobytes())
    return digest.hexdigest()[:32]
