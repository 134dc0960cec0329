"""Energies and forces of structures, from models or from a reference: what checks ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from fhi_al.core.structure import Array
from fhi_al.models.interface import Predictor


@dataclass(frozen=True, eq=False)
class SurfacePoint:
    """Energy and forces of one structure.

    Parameters
    ----------
    energy : float
        In eV.
    forces : (n_atoms, 3)
        In eV/A.
    """

    energy: float
    forces: Array


# A potential-energy surface: structures -> energy and forces of each.
Surface = Callable[[Sequence[Atoms]], list[SurfacePoint]]


def surface_of(predictor: Predictor) -> Surface:
    """The mean of all models."""

    def evaluated(structures: Sequence[Atoms]) -> list[SurfacePoint]:
        return [
            SurfacePoint(float(one.energies.mean()), one.forces.mean(axis=0))
            for one in predictor.predict(structures)
        ]

    return evaluated


class SurfaceCalculator(Calculator):
    """A surface as ASE's calculator, for ASE's optimizers.

    Parameters
    ----------
    surface : Surface
    """

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (ASE's own)

    def __init__(self, surface: Surface) -> None:
        super().__init__()
        self._surface = surface

    def calculate(
        self,
        atoms: Any = None,
        properties: Any = ("energy", "forces"),
        system_changes: Any = all_changes,
    ) -> None:
        """See ASE."""
        super().calculate(atoms, properties, system_changes)
        (point,) = self._surface([atoms])
        if not (np.isfinite(point.energy) and np.isfinite(point.forces).all()):
            raise ValueError("energy or forces are not finite")
        self.results = {"energy": point.energy, "forces": point.forces}
