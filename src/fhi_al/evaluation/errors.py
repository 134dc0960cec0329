"""Errors of predictions: of all structures, of each element, of each system.  Pure numbers.

Errors of forces and stress are of their components, those of energies of whole structures, divided
by the number of atoms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from fhi_al.core.calibration import Calibration, calibration
from fhi_al.core.structure import Array
from fhi_al.core.uncertainty import MEASURES, force_error
from fhi_al.evaluation.predictions import Labelled, Predicted
from fhi_al.models.energy_constants import corrected_energies, n_told_apart


@dataclass(frozen=True)
class Deviations:
    """Of a number of predicted values.

    Parameters
    ----------
    mae, rmse, largest : float
        In the unit of the values.
    n_values : int
    """

    mae: float
    rmse: float
    largest: float
    n_values: int

    @classmethod
    def of(cls, errors: Array) -> Deviations:
        """Of errors of any shape, at least one."""
        absolute = np.abs(errors)
        rmse = float(np.sqrt(np.square(errors).mean()))
        return cls(float(absolute.mean()), rmse, float(absolute.max()), errors.size)


@dataclass(frozen=True)
class SystemDeviations:
    """Errors on the structures of one system."""

    n_structures: int
    forces: Deviations
    energy_per_atom: Deviations


@dataclass(frozen=True)
class ModelErrors:
    """Errors of one model, or of the mean of several.

    Parameters
    ----------
    forces : Deviations
        In eV/A.
    energy_per_atom : Deviations
        In eV.
    energy_without_constants : Deviations or None
        The same when the constant for each element that fits best is taken off; None where there
        are too few structures to tell.
    constants : mapping
        Symbol -> that constant in eV; empty where there is none, or compositions do not tell
        those of the elements apart.
    stress : Deviations or None
        In eV/A^3; None if no structure has one.
    by_element : mapping
        Symbol -> errors of the forces on its atoms.
    by_system : mapping
        Name -> errors on its structures.
    """

    forces: Deviations
    energy_per_atom: Deviations
    energy_without_constants: Deviations | None
    constants: dict[str, float]
    stress: Deviations | None
    by_element: dict[str, Deviations]
    by_system: dict[str, SystemDeviations]

    def as_plain(self) -> dict[str, Any]:
        """As JSON has it: eV, eV/A, eV/A^3."""
        return asdict(self)


def model_errors(structures: Sequence[Labelled], found: Predicted) -> ModelErrors:
    """Errors of predictions for labelled structures, at least one."""
    of_forces = [f - each.label.forces for each, f in zip(structures, found.forces, strict=True)]
    of_energies = energy_errors(structures, found)
    n_atoms = np.array([len(each.label.numbers) for each in structures])
    constants, are_told_apart = _constants(structures, of_energies)
    without = None
    if constants:
        taken_off = np.array(
            [sum(constants[int(z)] for z in each.label.numbers) for each in structures]
        )
        without = Deviations.of((of_energies - taken_off) / n_atoms)
    of_stress = [
        predicted - each.label.stress
        for each, predicted in zip(structures, found.stress, strict=True)
        if predicted is not None and each.label.stress is not None
    ]
    return ModelErrors(
        forces=Deviations.of(np.concatenate(of_forces)),
        energy_per_atom=Deviations.of(of_energies / n_atoms),
        energy_without_constants=without,
        constants={chemical_symbols[z]: value for z, value in constants.items()}
        if are_told_apart
        else {},
        stress=Deviations.of(np.array(of_stress)) if of_stress else None,
        by_element=_by_element(structures, of_forces),
        by_system=_by_system(structures, of_forces, of_energies / n_atoms),
    )


def energy_errors(structures: Sequence[Labelled], found: Predicted) -> Array:
    """Predicted minus labelled energies in eV, (n_structures,)."""
    errors: Array = found.energies - np.array([each.label.energy for each in structures])
    return errors


def force_scale(structures: Sequence[Labelled]) -> float:
    """Root mean square of the labels' force components, in eV/A."""
    components = np.concatenate([each.label.forces for each in structures])
    return float(np.sqrt(np.square(components).mean()))


def _constants(structures: Sequence[Labelled], errors: Array) -> tuple[dict[int, float], bool]:
    """Atomic number -> constant in eV, and whether the structures determine each of them.

    None of too few structures: they would fit anything.
    """
    elements = sorted({int(z) for each in structures for z in each.label.numbers})
    labels = [each.label for each in structures]
    n_constants = n_told_apart(elements, labels)
    if len(structures) < 2 * n_constants + 1:
        return {}, False
    off = corrected_energies((0.0,) * len(elements), elements, labels, errors, by_element=True)
    constants = {z: -constant for z, constant in zip(elements, off, strict=True)}
    return constants, n_constants == len(elements)


def _by_element(structures: Sequence[Labelled], errors: Sequence[Array]) -> dict[str, Deviations]:
    numbers = np.concatenate([each.label.numbers for each in structures])
    every = np.concatenate(errors)
    return {
        chemical_symbols[int(z)]: Deviations.of(every[numbers == z]) for z in np.unique(numbers)
    }


def _by_system(
    structures: Sequence[Labelled], of_forces: Sequence[Array], per_atom: Array
) -> dict[str, SystemDeviations]:
    places: dict[str, list[int]] = {}
    for place, each in enumerate(structures):
        places.setdefault(each.system, []).append(place)
    return {
        name: SystemDeviations(
            len(own),
            Deviations.of(np.concatenate([of_forces[k] for k in own])),
            Deviations.of(per_atom[own]),
        )
        for name, own in places.items()
    }


@dataclass(frozen=True)
class Spread:
    """Disagreement of several models beside the true error of their mean.

    Parameters
    ----------
    uncertainties, errors : tuple of float
        Of each structure: largest standard deviation of the forces on an atom, and the error of
        the mean in the same measure, in eV/A.
    fit : Calibration or None
        True error = scale x uncertainty; None if there are too few structures.
    """

    uncertainties: tuple[float, ...]
    errors: tuple[float, ...]
    fit: Calibration | None

    def described(self) -> str:
        """In words."""
        if self.fit is None:
            return "spread of the models: too few structures to compare with their errors"
        fit = self.fit
        rank = "" if fit.spearman is None else f", rank correlation {fit.spearman:.2f}"
        return (
            f"spread of the models: true error = {fit.scale:.2f} x spread (95 % interval"
            f" {fit.low:.2f} to {fit.high:.2f}{rank}); {100 * fit.within_1:.0f} % of the errors are"
            f" within it, {100 * fit.within_2:.0f} % within twice that"
        )


def spread_of(structures: Sequence[Labelled], each: Sequence[Predicted]) -> Spread:
    """The spread of several models on labelled structures."""
    measure = MEASURES["max_atomic_sd"]
    uncertainties, errors = [], []
    for place, structure in enumerate(structures):
        forces = np.array([one.forces[place] for one in each])
        uncertainties.append(measure(forces))
        errors.append(force_error(forces.mean(axis=0), structure.label.forces, measure))
    pairs = [
        (uncertainty, error)
        for uncertainty, error in zip(uncertainties, errors, strict=True)
        if uncertainty > 0
    ]
    return Spread(tuple(uncertainties), tuple(errors), calibration(pairs))


def worst_first(structures: Sequence[Labelled], found: Predicted) -> list[tuple[int, float]]:
    """Places of the structures, and the largest force error on an atom of each in eV/A."""
    largest = [
        float(np.linalg.norm(forces - each.label.forces, axis=1).max())
        for each, forces in zip(structures, found.forces, strict=True)
    ]
    return sorted(enumerate(largest), key=lambda each: -each[1])
