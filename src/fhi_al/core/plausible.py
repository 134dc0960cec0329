"""Plausibility of structures and of reference results.  Pure: numpy only."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fhi_al.core.neighbours import (
    Pairs,
    close_pairs,
    image_pairs,
    molecule_pairs,
    shortest_height,
)
from fhi_al.core.structure import Array

# k_B in eV/K (CODATA 2018).
BOLTZMANN = 8.617333262e-5
# Standard deviations of the energy of harmonic vibrations.
_FAR = 8.0
# In A: nearly every atom of a molecule has a neighbour within it, and few have many.
_USUAL_NEIGHBOUR = 3.0
# Distances of lonely atoms from all others that are computed at a time.
_AT_ONCE = 500_000


@dataclass(frozen=True)
class LabelLimits:
    """What a reference result must not exceed; absolute, never what the ensemble expects.

    Parameters
    ----------
    max_force : float
        Largest norm of the force on an atom that is believed, in eV/A.
    max_energy_per_atom : float
        Largest distance of the energy from its reference, in eV per atom.
    max_stress : float or None
        Largest component of the stress that is believed, in eV/A^3; None where none is asked for.
    """

    max_force: float
    max_energy_per_atom: float
    max_stress: float | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """What tells them from others in the store: as programs without a stress wrote them."""
        return repr(self) + ("" if self.max_stress is None else f", max_stress={self.max_stress}")


@dataclass(frozen=True)
class EnergyReference:
    """An energy (eV) that a system's energies cannot be far from, and what it is."""

    energy: float
    description: str


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


def geometry_problem(
    positions: Array, cell: Array, pbc: bool, radii: Array, limits: GeometryLimits
) -> str | None:
    """Why no engine should see this structure; None if it is plausible.

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
        return _molecule_problem(positions, radii, limits, within)
    if within < shortest_height(cell) / 2:
        pairs = close_pairs(positions, cell, within)
    else:
        pairs = image_pairs(positions, cell)
    overlaps = (_overlap(block, radii, limits) for block in pairs)
    return next((overlap for overlap in overlaps if overlap is not None), None)


def _molecule_problem(
    positions: Array, radii: Array, limits: GeometryLimits, within: float
) -> str | None:
    n_atoms = len(positions)
    reach = max(within, _USUAL_NEIGHBOUR)
    nearest = np.full(n_atoms, np.inf)
    for block in molecule_pairs(positions, reach):
        overlap = _overlap(block, radii, limits)
        if overlap is not None:
            return overlap
        first, second, distances = block
        # No atom is lonely where no pair is far apart.
        if 2 * len(first) == n_atoms * (n_atoms - 1) and distances.max() <= limits.max_distance:
            return None
        np.minimum.at(nearest, first, distances)
        np.minimum.at(nearest, second, distances)
    lonely = np.flatnonzero(nearest > min(reach, limits.max_distance))
    step = max(1, _AT_ONCE // n_atoms)
    for some in (lonely[start : start + step] for start in range(0, len(lonely), step)):
        squares = np.square(positions[some, None] - positions).sum(axis=2)
        squares[np.arange(len(some)), some] = np.inf
        nearest[some] = np.sqrt(squares.min(axis=1))
    if nearest.max() > limits.max_distance:
        return (
            f"atom {int(np.argmax(nearest)) + 1} has flown apart: its nearest neighbour is "
            f"{nearest.max():.1f} A away, at most {limits.max_distance:g} A was expected"
        )
    return None


def _overlap(pairs: Pairs, radii: Array, limits: GeometryLimits) -> str | None:
    first, second, distances = pairs
    allowed = limits.min_distance * (radii[first] + radii[second])
    overlaps = distances < allowed
    if not overlaps.any():
        return None
    one = int(np.argmax(overlaps))
    i, j = sorted((int(first[one]), int(second[one])))
    return (
        f"atoms {i + 1} and {j + 1} overlap: they are {distances[one]:.3f} A apart, "
        f"at least {allowed[one]:.3f} A was expected"
    )


def motion_problem(fixed: NDArray[np.bool_]) -> str | None:
    """Why MD would show nothing to learn from, and how to fix it; None if it would.

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


def thermal_excess(n_atoms: int, temperature: float) -> float:
    """How far above the mean of its MD a structure's energy may lie and still be met there, in eV.

    Harmonic vibrations have a mean potential energy of 3/2 N k_B T above the minimum, with a
    standard deviation of sqrt(3/2 N) k_B T.  The limit is eight of these, and the mean once more:
    what it is counted from may have been sampled cold, and what melts takes up about k_B T for
    each atom.

    Parameters
    ----------
    n_atoms : int
    temperature : float
        In K.
    """
    vibrations = 1.5 * n_atoms
    return (vibrations + _FAR * math.sqrt(vibrations)) * BOLTZMANN * temperature


def label_problem(
    energy: float,
    forces: Array,
    converged: bool,
    n_atoms: int,
    limits: LabelLimits,
    stress: Array | None = None,
    reference: EnergyReference | None = None,
) -> str | None:
    """Why a reference result must not be trained on; None if it may.

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
        In eV/A^3; None if it was not computed.
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
    if stress is not None and limits.max_stress is not None:
        most = float(np.abs(stress).max())
        if most > limits.max_stress:
            return (
                f"the largest component of the stress is {most:.3g} eV/A^3, more than max_stress = "
                f"{limits.max_stress:g} eV/A^3"
            )
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
            f"the energy is {distance:.1f} eV per atom from {reference.description}, more than "
            f"max_energy_per_atom = {limits.max_energy_per_atom:g} eV"
        )
    return None
