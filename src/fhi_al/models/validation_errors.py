"""Errors of predictions on labels, those of weight zero left out.  Pure numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fhi_al.core.structure import Array
from fhi_al.core.system_errors import SystemErrors
from fhi_al.models.graphs import LabelGraph
from fhi_al.models.interface import ValidationErrors


def validation_errors(
    samples: Sequence[LabelGraph],
    energies: Array,
    forces: Array,
    loss: float,
    stress: Array | None = None,
) -> ValidationErrors:
    """Mean absolute and root mean square errors.

    Parameters
    ----------
    samples
        The labels.
    energies : (n_structures,)
        Errors in eV.
    forces : (n_atoms of all, 3)
        Predicted, in eV/A.
    loss : float
    stress : (n_structures, 3, 3), optional
        Predicted, in eV/A^3; compared where a label has one.
    """
    n_atoms = np.array([sample.n_atoms for sample in samples])
    counts = np.array([sample.weight > 0 for sample in samples])
    per_atom = (energies / n_atoms)[counts]
    wanted = np.concatenate([sample.label.forces for sample in samples])
    components = (forces - wanted)[np.repeat(counts, n_atoms)]
    if stress is not None:
        pairs = zip(samples, stress, counts, strict=True)
        of_stress = [
            found - sample.label.stress
            for sample, found, known in pairs
            if known and sample.label.stress is not None
        ]
    else:
        of_stress = []
    return ValidationErrors(
        mae_forces=_mae(components),
        rmse_forces=_rmse(components),
        mae_energy_per_atom=_mae(per_atom),
        rmse_energy_per_atom=_rmse(per_atom),
        loss=loss,
        mae_stress=_mae(np.array(of_stress)) if of_stress else None,
        rmse_stress=_rmse(np.array(of_stress)) if of_stress else None,
        by_system=_by_system(samples, counts, per_atom, components),
    )


def _by_system(
    samples: Sequence[LabelGraph], counts: Array, per_atom: Array, components: Array
) -> tuple[SystemErrors, ...]:
    """Of the samples that count, whose energy errors and force errors these are."""
    counted = [sample for sample, counts_ in zip(samples, counts, strict=True) if counts_]
    systems = np.array([sample.label.system for sample in counted])
    of_atoms = np.repeat(systems, [sample.n_atoms for sample in counted])
    return tuple(
        SystemErrors(
            int(system),
            _mae(components[of_atoms == system]),
            _mae(per_atom[systems == system]),
            int(np.count_nonzero(systems == system)),
        )
        for system in np.unique(systems)
    )


def _mae(values: Array) -> float:
    return float(np.mean(np.abs(values))) if values.size else math.nan


def _rmse(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else math.nan
