"""The constant part of a model's energy errors, taken out in closed form.  Pure numbers.

A constant for each element moves no force, so that it can be found by least squares at any time,
while gradient descent takes many epochs for it: it begins at a random value of the initial weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fhi_al.core.label import Label
from fhi_al.core.structure import Array

# Combinations of elements that the compositions of a training set tell apart less well than this
# keep their constants: noise would decide.  Of the matrix of shares with a row for each distinct
# composition, in which more labels or compositions make no singular value smaller.
SMALLEST_SINGULAR_VALUE = 1e-3
# Above this, in eV per atom, a model and the labels are of different zero points.
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
    does the same.  Which they determine does not depend on how many labels each has; what is left
    after that is smallest over labels.

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
    known = [label for label, one in zip(labels, counts, strict=True) if one]
    rows, means, n_labels = _by_composition(known, errors[counts], elements)
    if not by_element:
        rows = rows.sum(axis=1, keepdims=True)
    directions = _told_apart(rows)
    weights = np.sqrt(n_labels)
    within = np.linalg.lstsq(weights[:, None] * (rows @ directions), weights * means)[0]
    return tuple(float(e) for e in np.array(atomic_energies) - directions @ within)


def n_told_apart(elements: Sequence[int], labels: Sequence[Label]) -> int:
    """How many constants the compositions of labels determine, at most one for each element."""
    rows, _, _ = _by_composition(labels, np.zeros(len(labels)), elements)
    return int(_told_apart(rows).shape[1])


def _by_composition(
    labels: Sequence[Label], errors: Array, elements: Sequence[int]
) -> tuple[Array, Array, NDArray[Any]]:
    """Distinct compositions: shares of the elements, mean error per atom, number of labels."""
    n_atoms = np.array([len(label.numbers) for label in labels])
    numbers = np.array(elements)
    shares = np.array([(label.numbers[:, None] == numbers).sum(axis=0) for label in labels])
    rows, places, n_labels = np.unique(
        shares / n_atoms[:, None], axis=0, return_inverse=True, return_counts=True
    )
    # Of another shape in numpy 2.0.
    sums = np.bincount(places.ravel(), errors / n_atoms, minlength=len(rows))
    return rows, sums / n_labels, n_labels


def _told_apart(rows: Array) -> Array:
    """Combinations of elements that compositions tell apart, (n_elements, n_combinations)."""
    _, sizes, directions = np.linalg.svd(rows, full_matrices=False)
    found: Array = directions[sizes > SMALLEST_SINGULAR_VALUE].T
    return found


def largest_error_per_atom(
    elements: Sequence[int], labels: Sequence[Label], errors: Array
) -> float:
    """Mean error of the worst composition in eV per atom, without a sign; 0 if none is known.

    Parameters
    ----------
    elements : (n_elements,)
        Atomic numbers.
    labels : (n_labels,)
    errors : (n_labels,)
        Predicted minus labelled energies in eV; those that are not finite do not count.
    """
    counts = np.isfinite(errors)
    if not counts.any():
        return 0.0
    known = [label for label, one in zip(labels, counts, strict=True) if one]
    return float(np.abs(_by_composition(known, errors[counts], elements)[1]).max())


def foreign_energies(error: float, *, given: bool) -> str:
    """What is said where a model's energies, E0s corrected, are far from the labels'.

    Parameters
    ----------
    error : float
        Of the worst composition in eV per atom, before it is trained on.
    given : bool
        Whether the E0s are the user's.
    """
    cause = (
        "mace_settings.yaml: ARCHITECTURE.atomic_energies are not those of the method that labels,"
        " or of other atoms. Expected the energies of isolated atoms with the settings of the"
        " labels; FHI_AL-atomic-energies computes them, and without the key they are fitted"
        if given
        else "no E0s fit the labels of all compositions, which are of several methods, or do not"
        " determine the E0s of their elements. Give them as ARCHITECTURE.atomic_energies"
        " (mace_settings.yaml; FHI_AL-atomic-energies computes them)"
    )
    return (
        f"the model's energies of a composition are off by {error:.2f} eV per atom before training"
        f" on it, more than {MOST_ERROR_PER_ATOM:g}: {cause}"
    )
