"""Does a structure, or a reference result, make sense?  Pure: numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fhi_al.core.structure import Array

Indices = NDArray[np.intp]

_IMAGES: NDArray[np.float64] = np.array(
    [(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)], dtype=np.float64
)
_PAIRS_AT_ONCE = 20_000
# Atoms of which all pairs are looked at in no more time than it takes to sort them.
_FEW = 40


@dataclass(frozen=True)
class LabelLimits:
    """What a reference result must not exceed; absolute, never what the ensemble expects.

    Parameters
    ----------
    max_force : float
        Largest norm of the force on an atom that is believed, in eV/A.
    max_energy_per_atom : float
        Largest distance of the energy from its reference, in eV per atom.
    """

    max_force: float
    max_energy_per_atom: float


@dataclass(frozen=True)
class EnergyReference:
    """An energy (eV) that a system's energies cannot be far from, and what it is, in words."""

    energy: float
    words: str


@dataclass(frozen=True)
class GeometryLimits:
    """When atoms overlap or have flown apart.

    Parameters
    ----------
    min_distance : float
        Two atoms overlap if they are nearer than this fraction of the sum of their covalent radii.
    max_distance : float
        In a molecule, an atom farther (A) than this from every other has flown apart.
    """

    min_distance: float = 0.4
    max_distance: float = 8.0


def molecule_pairs(positions: Array) -> tuple[Indices, Indices, Array]:
    """All pairs of atoms in a molecule, each once: their places, and their distances in A."""
    first, second = _every_pair(len(positions))
    return first, second, _lengths(positions[first] - positions[second])


def nearest_pairs(positions: Array, cell: Array) -> Array:
    """Shortest distance of every pair of atoms in a crystal, periodic images included.

    Parameters
    ----------
    positions : (n_atoms, 3)
    cell : (3, 3)
        Lattice vectors as rows.

    Returns
    -------
    (n_atoms, n_atoms)
        In A; the diagonal holds an atom's distance to its own nearest image.

    Notes
    -----
    Differences are first reduced to one cell, then the 27 cells around are searched, which is exact
    up to the shortest cell height; 100 atoms take 13 ms.
    """
    difference = positions[:, None, :] - positions[None, :, :]
    fractional = difference @ np.linalg.inv(cell)
    difference = ((fractional - np.round(fractional)) @ cell).reshape(-1, 3)
    shifts = _IMAGES @ cell
    distance = _nearest_of_images(difference, shifts).reshape(len(positions), len(positions))
    lattice = np.sum(shifts**2, axis=1)
    np.fill_diagonal(distance, np.sqrt(lattice[lattice > 0].min()))
    return np.asarray(distance, dtype=np.float64)


def _nearest_of_images(difference: Array, shifts: Array) -> Array:
    nearest = np.empty(len(difference))
    for start in range(0, len(difference), _PAIRS_AT_ONCE):
        part = difference[start : start + _PAIRS_AT_ONCE, None, :] + shifts
        nearest[start : start + _PAIRS_AT_ONCE] = np.linalg.norm(part, axis=-1).min(axis=1)
    return nearest


def close_pairs(positions: Array, cell: Array, within: float) -> tuple[Indices, Indices, Array]:
    """The pairs of atoms in a crystal that are nearer than a short distance, and some others.

    Parameters
    ----------
    positions : (n_atoms, 3)
        In A.
    cell : (3, 3)
        Lattice vectors as rows, in A.
    within : float
        In A; less than half of :func:`shortest_height`, so that no atom is near its own images.

    Returns
    -------
    first, second : (n_pairs,)
        Places of the atoms; each pair is there once.
    distances : (n_pairs,)
        In A.  Those above `within` may be too long.

    Notes
    -----
    A vector shorter than half of every cell height has fractional coordinates below 1/2, so that
    rounding finds it.
    """
    inverse = np.linalg.inv(cell)
    fractional = positions @ inverse
    if len(positions) <= _FEW:
        first, second = _every_pair(len(positions))
    else:
        first, second = _neighbours_along(fractional, 1.0 / np.linalg.norm(inverse, axis=0), within)
    difference = fractional[first] - fractional[second]
    difference = (difference - np.round(difference)) @ cell
    return first, second, _lengths(difference)


def _lengths(vectors: Array) -> Array:
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", vectors, vectors)), dtype=np.float64)


@cache
def _every_pair(n_atoms: int) -> tuple[Indices, Indices]:
    return np.triu_indices(n_atoms, 1)


def _neighbours_along(fractional: Array, heights: Array, within: float) -> tuple[Indices, Indices]:
    """Pairs of atoms that are near each other along the lattice vector with the largest height.

    They are sorted along it, and each is compared with those that follow: 1000 atoms of diamond
    take 4 ms, where all pairs take 160.
    """
    axis = int(np.argmax(heights))
    along = fractional[:, axis] % 1.0
    order = np.argsort(along, kind="stable")
    along = along[order]
    # Those up to the end of the cell, then those of the next one; a little more for the rounding.
    ends = np.searchsorted(
        np.concatenate([along, along + 1.0]), along + (within / heights[axis] + 1e-9), "right"
    )
    n_following = ends - np.arange(len(order)) - 1
    first = np.repeat(np.arange(len(order)), n_following)
    begins = np.cumsum(n_following) - n_following
    second = np.arange(len(first)) - np.repeat(begins, n_following) + first + 1
    return order[first], order[second % len(order)]


def shortest_height(cell: Array) -> float:
    """Smallest distance of two opposite faces of a cell, in A."""
    return float(1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0).max())


def geometry_problem(
    positions: Array, cell: Array, pbc: bool, radii: Array, limits: GeometryLimits
) -> str | None:
    """Why no engine should see this structure, in words; None if it is plausible.

    Parameters
    ----------
    positions : (n_atoms, 3)
        In A.
    cell : (3, 3)
        In A.
    pbc : bool
    radii : (n_atoms,)
        Covalent radii in A.
    """
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        return "positions are not finite"
    if len(positions) == 1 and not pbc:
        return None
    within = 2.0 * limits.min_distance * float(radii.max())
    if not pbc:
        first, second, distance = molecule_pairs(positions)
    elif within < shortest_height(cell) / 2:
        first, second, distance = close_pairs(positions, cell, within)
    else:
        # An atom and its own images, too.
        first, second = np.triu_indices(len(positions))
        distance = nearest_pairs(positions, cell)[first, second]
    allowed = limits.min_distance * (radii[first] + radii[second])
    overlaps = distance < allowed
    if overlaps.any():
        one = int(np.argmax(overlaps))
        i, j = sorted((int(first[one]), int(second[one])))
        return (
            f"atoms {i + 1} and {j + 1} overlap: they are {distance[one]:.3f} A apart, "
            f"at least {allowed[one]:.3f} A was expected"
        )
    # No atom is lonely where no pair is far apart.
    if not pbc and distance.max() > limits.max_distance:
        nearest = np.full(len(positions), np.inf)
        np.minimum.at(nearest, first, distance)
        np.minimum.at(nearest, second, distance)
        if nearest.max() > limits.max_distance:
            return (
                f"atom {int(np.argmax(nearest)) + 1} has flown apart: its nearest neighbour is "
                f"{nearest.max():.1f} A away, at most {limits.max_distance:g} A was expected"
            )
    return None


def motion_problem(fixed: NDArray[np.bool_]) -> str | None:
    """Why MD would show nothing to learn from, and how to mend it; None if it would.

    Parameters
    ----------
    fixed : (n_atoms, 3)
        True where a Cartesian coordinate must not move.
    """
    if len(fixed) == 1:
        # A model's forces add up to zero, and so do the engine's, without a field.
        return (
            "has one atom, on which no force acts wherever it is: there is nothing to learn. Take "
            "a molecule, or a supercell"
        )
    if fixed.all():
        return (
            "every atom is fixed by constrain_relaxation: nothing can move. Take the line from the "
            "atoms that are to move"
        )
    return None


def label_problem(
    energy: float,
    forces: Array,
    converged: bool,
    n_atoms: int,
    limits: LabelLimits,
    stress: Array | None = None,
    reference: EnergyReference | None = None,
) -> str | None:
    """Why a reference result must not be trained on, in words; None if it may.

    Parameters
    ----------
    energy : float
        In eV.
    forces : (n_atoms, 3)
        In eV/A.
    converged : bool
        What the engine says of its SCF.
    limits : LabelLimits
    stress : (3, 3) or None
        In eV/A^3; None if it was not asked for.
    reference : EnergyReference or None
        None if there is nothing to compare the energy with.
    """
    if not converged:
        return "the SCF did not converge"
    if forces.shape != (n_atoms, 3):
        return f"the forces have shape {forces.shape}, expected {(n_atoms, 3)}"
    if not (np.isfinite(energy) and np.isfinite(forces).all()):
        return "the energy or a force is not finite"
    if stress is not None and not (stress.shape == (3, 3) and np.isfinite(stress).all()):
        return "the stress is not finite, or not (3, 3)"
    largest = float(np.linalg.norm(forces, axis=1).max())
    if largest > limits.max_force:
        return (
            f"the largest force is {largest:.1f} eV/A, more than max_force = "
            f"{limits.max_force:g} eV/A"
        )
    if reference is None:
        return None
    distance = abs(energy - reference.energy) / n_atoms
    if distance > limits.max_energy_per_atom:
        return (
            f"the energy is {distance:.1f} eV per atom from {reference.words}, more than "
            f"max_energy_per_atom = {limits.max_energy_per_atom:g} eV"
        )
    return None
