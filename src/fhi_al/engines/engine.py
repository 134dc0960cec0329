"""What every reference engine promises.  Imports numpy only: a labelling rank stays small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from fhi_al.core.structure import Array


@dataclass(frozen=True, eq=False)
class ReferenceResult:
    """What one call of an engine gave, not yet judged.

    Parameters
    ----------
    energy : float
        In eV; NaN if the SCF did not converge.
    forces : (n_atoms, 3)
        In eV/A.
    stress : (3, 3) or None
        In eV/A^3, ASE's sign.
    converged : bool
        False if the engine says its SCF did not converge.
    message : str
        The engine's own words where something went wrong, else empty.
    """

    energy: float
    forces: Array
    stress: Array | None
    converged: bool
    message: str = ""

    @classmethod
    def failed(cls, n_atoms: int, message: str) -> ReferenceResult:
        """The result of a structure that could not be computed: why, and NaN for all numbers."""
        return cls(float("nan"), np.full((n_atoms, 3), np.nan), None, False, message)


@runtime_checkable
class ReferenceEngine(Protocol):
    """Energies and forces of one system.  Only positions and cell may change between calls."""

    def calculate(self, positions: Array, cell: Array) -> ReferenceResult:
        """Collective over the engine's ranks: the result on all of them, or EngineError on all.

        Parameters
        ----------
        positions : (n_atoms, 3)
            In A.
        cell : (3, 3)
            In A; zeros for a molecule.

        Raises
        ------
        EngineError
            If the engine is broken.  A failed SCF is not an error: see ``converged``.
        """
        ...

    def close(self) -> None:
        """Collective over the engine's ranks: give its resources back.  Twice is harmless."""
        ...
