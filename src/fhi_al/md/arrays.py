"""What integrators need of arrays besides arithmetic, for NumPy and for torch alike.

Every result of a trajectory is the same, bit for bit on a CPU, whichever others share the arrays:
sums go through its own atoms in order, and small matrices are multiplied term by term.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


def namespace(array: Any) -> Any:
    """The library of an array, with ``exp``, ``sqrt``, ``where``, ...: NumPy or torch."""
    if isinstance(array, np.ndarray):
        return np
    return sys.modules[type(array).__module__.partition(".")[0]]


def sums(values: Any, owner: Any, n: int) -> Any:
    """Sums over the atoms of each trajectory.

    Parameters
    ----------
    values : (n_atoms,) or (n_atoms, 3)
    owner : (n_atoms,)
        The trajectory of each atom.
    n : int
        Number of trajectories.

    Returns
    -------
    (n,) or (n, 3)
    """
    if not isinstance(values, np.ndarray):
        return values.new_zeros((n, *values.shape[1:])).index_add(0, owner, values)
    if values.ndim == 1:
        return np.bincount(owner, values, n)
    columns = [np.bincount(owner, values[:, axis], n) for axis in range(values.shape[1])]
    return np.stack(columns, axis=1)


def times_matrix(vectors: Any, matrices: Any) -> Any:
    """Row vectors (n, 3) times their matrices (n, 3, 3); or rows (n, k, 3) of each matrix."""
    if vectors.ndim == 3:
        return (
            vectors[:, :, 0:1] * matrices[:, 0:1, :]
            + vectors[:, :, 1:2] * matrices[:, 1:2, :]
            + vectors[:, :, 2:3] * matrices[:, 2:3, :]
        )
    return (
        vectors[:, 0:1] * matrices[:, 0]
        + vectors[:, 1:2] * matrices[:, 1]
        + vectors[:, 2:3] * matrices[:, 2]
    )


def determinants(matrices: Any) -> Any:
    """Of matrices (n, 3, 3)."""
    a, b, c = matrices[:, 0], matrices[:, 1], matrices[:, 2]
    return (
        a[:, 0] * (b[:, 1] * c[:, 2] - b[:, 2] * c[:, 1])
        + a[:, 1] * (b[:, 2] * c[:, 0] - b[:, 0] * c[:, 2])
        + a[:, 2] * (b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0])
    )


def traces(matrices: Any) -> Any:
    """Of matrices (n, 3, 3)."""
    return matrices[:, 0, 0] + matrices[:, 1, 1] + matrices[:, 2, 2]


def expm1_ratio(x: Any) -> Any:
    """(exp(x) - 1) / x, and 1 for x = 0."""
    xp = namespace(x)
    safe = xp.where(x == 0, xp.ones_like(x), x)
    return xp.where(x == 0, xp.ones_like(x), xp.expm1(safe) / safe)
