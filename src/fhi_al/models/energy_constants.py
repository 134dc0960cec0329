"""The constant part of a model's energy errors, taken out in closed form.  Pure numbers.

A constant for each element moves no force, so that it can be found by least squares at any time,
while gradient descent takes many epochs for it: it begins at a random value of the initial weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fhi_al.core.label import Label
from fhi_al.core.structure import Array

# Combinations of elements that the compositions of a training set tell apart less well than this,
# relative to the best, keep their constants: noise would decide.
SMALLEST_SINGULAR_VALUE = 1e-3
# Above this, in eV per atom, a pretrained model and the labels are of different zero points.
MOST_ERROR_PER_ATOM = 0.4


def corrected_energies(
    atomic_energies: tuple[float, ...],
    elements: Sequence[int],
    labels: Sequence[Label],
    errors: Array,
    *,
    by_element: bool,
) -> tuple[float, ...]:
    """E0s with which the errors of the energies per atom are smallest.

    Where the compositions do not determine a constant for each element, the smallest change that
    does the same.

    Parameters
    ----------
    atomic_energies : (n_elements,)
        The model's E0s in eV.
    elements : (n_elements,)
        Their atomic numbers.
    labels : (n_labels,)
    errors : (n_labels,)
        Predicted minus labelled energies in eV; those that are not finite do not count.
    by_element : bool
        False: the same constant for all elements.

    Returns
    -------
    tuple of float
        In eV; those given, if no error is finite.
    """
    counts = np.isfinite(errors)
    if not counts.any():
        return atomic_energies
    counted = [label.numbers for label, one in zip(labels, counts, strict=True) if one]
    n_atoms = np.array([len(numbers) for numbers in counted])
    shares = np.array([[np.count_nonzero(n == z) for z in elements] for n in counted], dtype=float)
    shares /= n_atoms[:, None]
    if not by_element:
        shares = shares.sum(axis=1, keepdims=True)
    found = np.linalg.lstsq(shares, errors[counts] / n_atoms, rcond=SMALLEST_SINGULAR_VALUE)[0]
    return tuple(float(e) for e in np.array(atomic_energies) - found)


def mean_error_per_atom(labels: Sequence[Label], errors: Array) -> float:
    """Mean absolute error of energies in eV per atom; 0 if none is known.

    Parameters
    ----------
    labels : (n_labels,)
    errors : (n_labels,)
        Predicted minus labelled energies in eV; those that are not finite do not count.
    """
    n_atoms = np.array([len(label.numbers) for label in labels])
    known = np.isfinite(errors)
    return float(np.abs(errors[known] / n_atoms[known]).mean()) if known.any() else 0.0


def foreign_energies(error: float, *, given: bool) -> str:
    """What is said of a pretrained model whose first energies are far from the labels'.

    Parameters
    ----------
    error : float
        In eV per atom, before any training.
    given : bool
        Whether the E0s are the user's.
    """
    cause = (
        "mace_settings.yaml: ARCHITECTURE.atomic_energies are not those of the method that labels,"
        " or of other atoms. Expected the energies of isolated atoms with the settings of the"
        " labels; FHI_AL-atomic-energies computes them, and without the key they are fitted"
        if given
        else "the labels do not determine the E0s of its elements. Give them as"
        " ARCHITECTURE.atomic_energies (mace_settings.yaml; FHI_AL-atomic-energies computes them)"
    )
    return (
        f"the foundation model's energies are off by {error:.2f} eV per atom before training, more"
        f" than {MOST_ERROR_PER_ATOM:g}: {cause}"
    )
