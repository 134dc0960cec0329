"""A reference engine that another package brings: Morse pairs, by ASE's calculator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from fhi_al.core.structure import Structure
from fhi_al.engines.aims_input.geometry import Geometry
from fhi_al.engines.engine import ReferenceResult
from fhi_al.engines.kind import EngineContext, EngineKind
from fhi_al.engines.spec import EngineSpec
from fhi_al.settings.value_types import Number, Section, setting


class Keys(Section):
    """Keys below ``reference_arguments``."""

    depth: Number = setting(1.0, "Depth of the well.", unit="eV", gt=0, try_=1.0)
    distance: Number = setting(1.0, "Distance at its bottom.", unit="A", gt=0, try_=1.0)


@dataclass(frozen=True, eq=False)
class MorseSpec(EngineSpec):
    """Plain data, sent to the rank that computes."""

    structure: Structure
    depth: float
    distance: float
    engine_class = "morse_engine:Morse"


class Morse:
    """The engine."""

    def __init__(self, spec: MorseSpec, comm: object) -> None:
        from ase.calculators.morse import MorsePotential  # not needed where only specs are

        self._numbers, self._pbc = spec.structure.numbers, spec.structure.pbc
        self._calculator = MorsePotential(epsilon=spec.depth, r0=spec.distance, rho0=3.0)

    def calculate(self, positions: NDArray, cell: NDArray) -> ReferenceResult:
        """Energy in eV and forces in eV/A; the cell is of zeros for a molecule."""
        atoms = Atoms(self._numbers, positions, cell=cell, pbc=self._pbc)
        self._calculator.calculate(atoms, ["energy", "forces"])
        results = self._calculator.results
        return ReferenceResult(results["energy"], np.array(results["forces"]), None, True)

    def close(self) -> None:
        """Nothing to give back."""


class MorseKind(EngineKind):
    """What ``reference_engine: morse`` is."""

    keys = Keys
    energy = "the sum of the pairs' energies"

    def spec(self, run: EngineContext, geometry: Geometry) -> MorseSpec:
        """The engine of a system."""
        return MorseSpec(geometry.structure, run.keys.depth, run.keys.distance)
