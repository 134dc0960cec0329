"""What models predict for labelled structures, a bounded number of structures at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fhi_al.core.label import Label
from fhi_al.core.structure import Array
from fhi_al.models.interface import Predictor

# Graphs of so many structures are in memory together.
AT_ONCE = 200


@dataclass(frozen=True, eq=False)
class Labelled:
    """A labelled structure of a file or of an MD, and where it is from.

    Parameters
    ----------
    label : Label
    number : int
        Of its frame, counted from 1.
    system : str
        What its errors are collected under: a name, or its composition.
    """

    label: Label
    number: int
    system: str


@dataclass(frozen=True, eq=False)
class Predicted:
    """What one model, or the mean of several, predicts for labelled structures.

    Parameters
    ----------
    energies : (n_structures,)
        In eV.
    forces : list of (n_atoms, 3)
        In eV/A.
    stress : list of (3, 3) or None
        In eV/A^3; None where there is no label of it.
    """

    energies: Array
    forces: list[Array]
    stress: list[Array | None]


def predicted(
    predictor: Predictor,
    n_models: int,
    structures: Sequence[Labelled],
    between: Callable[[int], None] = lambda n_done: None,
) -> list[Predicted]:
    """What each model predicts.

    Parameters
    ----------
    predictor : Predictor
    n_models : int
        Of the predictor.
    structures : sequence of Labelled
    between : callable
        Called before each batch with the number of structures that are done.

    Raises
    ------
    ValueError
        If a prediction is not finite: the structure is broken, or the model is.
    """
    energies = np.empty((n_models, len(structures)))
    forces: list[list[Array]] = [[] for _ in range(n_models)]
    stress: list[list[Array | None]] = [[] for _ in range(n_models)]
    for start in range(0, len(structures), AT_ONCE):
        between(start)
        some = structures[start : start + AT_ONCE]
        wants_stress = any(each.label.stress is not None for each in some)
        found = predictor.predict([each.label for each in some], stress=wants_stress)
        for place, (each, one) in enumerate(zip(some, found, strict=True), start=start):
            _require_finite(each, one.energies, one.forces)
            energies[:, place] = one.energies
            for k in range(n_models):
                forces[k].append(one.forces[k])
                has_stress = each.label.stress is not None and one.stress is not None
                stress[k].append(one.stress[k] if has_stress and one.stress is not None else None)
    return [Predicted(energies[k], forces[k], stress[k]) for k in range(n_models)]


def mean_of(each: Sequence[Predicted]) -> Predicted:
    """The mean of several models."""
    forces = [np.mean(of_one, axis=0) for of_one in zip(*(p.forces for p in each), strict=True)]
    stress: list[Array | None] = []
    for of_one in zip(*(p.stress for p in each), strict=True):
        known = [one for one in of_one if one is not None]
        stress.append(np.mean(known, axis=0) if known else None)
    return Predicted(np.mean([p.energies for p in each], axis=0), forces, stress)


def _require_finite(structure: Labelled, energies: Array, forces: Array) -> None:
    if np.isfinite(energies).all() and np.isfinite(forces).all():
        return
    raise ValueError(
        f"frame {structure.number}: the models' energy or forces are not finite: expected numbers."
        " A molecule that is wider than 200 A, or a model with broken weights. Remove the frame,"
        " or take another model"
    )
