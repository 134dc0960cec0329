"""How far the members of an ensemble disagree on a structure.  Pure: numpy only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fhi_al.core.structure import Array

UncertaintyType = Literal["max_atomic_sd", "mean_atomic_sd", "ensemble_sd"]

# Forces of the members, (n_members, n_atoms, 3) in eV/A -> uncertainty of the structure in eV/A.
# NaN if any force is NaN: the structure is then taken for broken.
Measure = Callable[[Array], float]


def atomic_spread(forces: Array) -> Array:
    """Spread of the members' forces on each atom.

    Parameters
    ----------
    forces : (n_members, n_atoms, 3)
        Member forces in eV/A.

    Returns
    -------
    (n_atoms,)
        s[a] = sqrt(mean over members and xyz of (F[m,a] - mean_m F[a])^2) in eV/A.

    Raises
    ------
    ValueError
        If ``forces`` is not (n_members, n_atoms, 3).
    """
    if forces.ndim != 3 or forces.shape[2] != 3:
        raise ValueError(f"forces have shape {forces.shape}, expected (n_members, n_atoms, 3)")
    deviation = forces - forces.mean(axis=0)
    spread: Array = np.sqrt(np.mean(deviation**2, axis=(0, 2)))
    return spread


@dataclass(frozen=True)
class SpreadMeasure:
    """The spread on each atom, reduced to one number.

    Parameters
    ----------
    reduce : callable
        (n_atoms,) in eV/A -> float.
    """

    reduce: Callable[[Array], float]

    def __call__(self, forces: Array) -> float:
        """Uncertainty in eV/A of a structure with member forces (n_members, n_atoms, 3)."""
        return self.reduce(atomic_spread(forces))


# Largest spread of an atom; mean spread of the atoms; standard deviation over all members, atoms
# and components.
MEASURES: Mapping[UncertaintyType, Measure] = {
    "max_atomic_sd": SpreadMeasure(lambda spread: float(spread.max())),
    "mean_atomic_sd": SpreadMeasure(lambda spread: float(spread.mean())),
    "ensemble_sd": SpreadMeasure(lambda spread: float(np.sqrt(np.mean(spread**2)))),
}


def stress_spread(stress: Array) -> float:
    """Spread of the members' stress of one structure.

    Parameters
    ----------
    stress : (n_members, 3, 3)
        In eV/A^3.

    Returns
    -------
    float
        sqrt(mean over members and components of (S[m] - mean_m S)^2) in eV/A^3.

    Raises
    ------
    ValueError
        If ``stress`` is not (n_members, 3, 3).
    """
    if stress.ndim != 3 or stress.shape[1:] != (3, 3):
        raise ValueError(f"stress has shape {stress.shape}, expected (n_members, 3, 3)")
    return float(np.sqrt(np.mean((stress - stress.mean(axis=0)) ** 2)))


def force_error(predicted: Array, true: Array, measure: Measure) -> float:
    """True error of one structure in eV/A, reduced as the uncertainty is, to compare with it.

    Parameters
    ----------
    predicted, true : (n_atoms, 3)
        The members' mean forces and those of the reference in eV/A.
    measure : callable
        Of the uncertainty.

    Returns
    -------
    float
        Of a :class:`SpreadMeasure`: the error of each atom, e[a] = sqrt(mean over xyz of
        (predicted - true)^2), reduced.  Of any other: the uncertainty of two members that are off
        by the error, one to each side of their mean, which is the same but for rounding.

    Raises
    ------
    ValueError
        If the forces are not (n_atoms, 3), both.
    """
    if predicted.shape != true.shape or true.ndim != 2 or true.shape[1] != 3:
        raise ValueError(
            f"forces have shapes {predicted.shape} and {true.shape}, expected (n_atoms, 3)"
        )
    difference = predicted - true
    if isinstance(measure, SpreadMeasure):
        return measure.reduce(np.sqrt(np.mean(difference**2, axis=1)))
    return float(measure(np.stack([difference, -difference])))
