"""A reference engine that another package brings: Morse pairs, by ASE's calculator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
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
    stress: bool = False
    engine_class = "morse_engine:Morse"


class Morse:
    """The engine."""

    def __init__(self, spec: MorseSpec, comm: object) -> None:
        from ase.calculators.morse import MorsePotential  # not needed where only specs are

        self._numbers, self._pbc = spec.structure.numbers, spec.structure.pbc
        self._stress = spec.stress
        self._calculator = MorsePotential(epsilon=spec.depth, r0=spec.distance, rho0=3.0)

    def calculate(self, positions: NDArray, cell: NDArray) -> ReferenceResult:
        """Energy in eV, forces in eV/A, stress in eV/A^3; the cell is of zeros for a molecule."""
        atoms = Atoms(self._numbers, positions, cell=cell, pbc=self._pbc)
        self._calculator.calculate(atoms, ["energy", "forces"])
        results = self._calculator.results
        stress = voigt_6_to_full_3x3_stress(results["stress"]) if self._stress else None
        return ReferenceResult(results["energy"], np.array(results["forces"]), stress, True)

    def close(self) -> None:
        """Nothing to give back."""


class MorseKind(EngineKind):
    """What ``reference_engine: morse`` is."""

    keys = Keys
    energy = "the sum of the pairs' energies"
    has_stress = True  # with GENERAL.compute_stress

    def spec(self, run: EngineContext, geometry: Geometry) -> MorseSpec:
        """The engine of a system."""
        keys, stress = run.keys, run.wants_stress(geometry)
        return MorseSpec(geometry.structure, keys.depth, keys.distance, stress)
