"""How far the members of an ensemble disagree on a structure.  Pure: numpy only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from fhi_al.core.structure import Array

UncertaintyType = Literal["max_atomic_sd", "mean_atomic_sd", "ensemble_sd"]


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


_REDUCE: dict[UncertaintyType, Callable[[Array], float]] = {
    "max_atomic_sd": lambda spread: float(spread.max()),
    "mean_atomic_sd": lambda spread: float(spread.mean()),
    "ensemble_sd": lambda spread: float(np.sqrt(np.mean(spread**2))),
}


def force_uncertainty(forces: Array, kind: UncertaintyType = "max_atomic_sd") -> float:
    """Uncertainty of one structure in eV/A; NaN if any force is NaN.

    Parameters
    ----------
    forces : (n_members, n_atoms, 3)
        Member forces in eV/A.
    kind : {"max_atomic_sd", "mean_atomic_sd", "ensemble_sd"}
        Largest spread of an atom; mean spread of the atoms; standard deviation over all
        members, atoms and components.
    """
    return _REDUCE[kind](atomic_spread(forces))


def force_error(predicted: Array, true: Array, kind: UncertaintyType = "max_atomic_sd") -> float:
    """True error of one structure in eV/A, reduced as the uncertainty is, to compare with it.

    Parameters
    ----------
    predicted, true : (n_atoms, 3)
        The members' mean forces and those of the reference in eV/A.
    kind : {"max_atomic_sd", "mean_atomic_sd", "ensemble_sd"}
        Of the error of each atom, e[a] = sqrt(mean over xyz of (predicted - true)^2): the
        largest; the mean; the root of the mean square.
    """
    error: Array = np.sqrt(np.mean((predicted - true) ** 2, axis=1))
    return _REDUCE[kind](error)
