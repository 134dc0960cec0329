"""Errors of predictions on a test set.  Pure: numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fhi_al.core.label import Label
from fhi_al.core.structure import Array

WORST_SHARE = 0.01


@dataclass(frozen=True)
class PredictionErrors:
    """How far predictions are from the reference.

    Parameters
    ----------
    n_points : int
    mae_forces, rmse_forces : float
        Over all force components, in eV/A.
    worst_forces : float
        Mean absolute error of the worst 1 % of the components (at least of one), in eV/A.
    mae_energy_per_atom, rmse_energy_per_atom : float
        In eV.
    mae_stress, rmse_stress : float or None
        Over all nine components, in eV/A^3; None if no label has a stress.
    """

    n_points: int
    mae_forces: float
    rmse_forces: float
    worst_forces: float
    mae_energy_per_atom: float
    rmse_energy_per_atom: float
    mae_stress: float | None = None
    rmse_stress: float | None = None


def prediction_errors(
    labels: Sequence[Label],
    energies: Sequence[float],
    forces: Sequence[Array],
    stress: Sequence[Array] | None = None,
) -> PredictionErrors:
    """Errors of predictions for labelled points.

    Parameters
    ----------
    labels : sequence of Label
        At least one.
    energies : sequence of float
        Predicted, in eV.
    forces : sequence of (n_atoms, 3)
        Predicted, in eV/A.
    stress : sequence of (3, 3), optional
        Predicted, in eV/A^3; compared where a label has one.

    Raises
    ------
    ValueError
        If there is no label, or not a prediction for each.
    """
    if not labels:
        raise ValueError("no labels to compare predictions with")
    per_atom = np.array(
        [
            (energy - label.energy) / len(label.numbers)
            for label, energy in zip(labels, energies, strict=True)
        ]
    )
    components = np.concatenate(
        [
            np.ravel(predicted - label.forces)
            for label, predicted in zip(labels, forces, strict=True)
        ]
    )
    absolute = np.abs(components)
    of_stress = np.array(
        [
            predicted - label.stress
            for label, predicted in zip(labels, stress or [], strict=stress is not None)
            if label.stress is not None
        ]
    )
    n_worst = max(1, math.ceil(WORST_SHARE * len(absolute)))
    return PredictionErrors(
        n_points=len(labels),
        mae_forces=float(absolute.mean()),
        rmse_forces=float(np.sqrt(np.square(components).mean())),
        worst_forces=float(np.sort(absolute)[-n_worst:].mean()),
        mae_energy_per_atom=float(np.abs(per_atom).mean()),
        rmse_energy_per_atom=float(np.sqrt(np.square(per_atom).mean())),
        mae_stress=float(np.abs(of_stress).mean()) if of_stress.size else None,
        rmse_stress=float(np.sqrt(np.square(of_stress).mean())) if of_stress.size else None,
    )
