"""Small systems and conditions for the MD tests."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes

from fhi_al.core.plausible import GeometryLimits
from fhi_al.core.structure import Array, Structure, structure
from fhi_al.md.conditions import MDConditions, Thermostat
from fhi_al.md.engine import advance
from fhi_al.md.evaluation import forces_of_calculator
from fhi_al.md.live_trajectory import LiveTrajectory
from fhi_al.md.point import MDFailure, MDPoint
from fhi_al.md.system import MDSystem

THERMOSTATS: tuple[Thermostat | None, ...] = (None, *get_args(Thermostat))


class Springs(Calculator):
    """A spring between every pair of atoms, at rest at the given positions; a molecule.

    Parameters
    ----------
    rest : (n_atoms, 3)
        In A.
    """

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (ASE's own interface)
    STIFFNESS = 4.0  # eV/A^2

    def __init__(self, rest: Array) -> None:
        super().__init__()
        self.rest = np.linalg.norm(rest[:, None] - rest[None], axis=-1)
        self.n_calls = 0

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Energy in eV and forces in eV/A."""
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        self.n_calls += 1
        difference = self.atoms.positions[:, None] - self.atoms.positions[None]
        distance = np.linalg.norm(difference, axis=-1)
        np.fill_diagonal(distance, 1.0)
        stretch = distance - self.rest
        np.fill_diagonal(stretch, 0.0)
        pull = (self.STIFFNESS * stretch / distance)[..., None] * difference
        self.results = {
            "energy": float(0.25 * self.STIFFNESS * (stretch**2).sum()),
            "forces": -pull.sum(axis=1),
        }


def molecule(fixed: Any = None) -> Structure:
    """Six atoms of different masses, in general positions."""
    positions = np.array(
        [[0.0, 0, 0], [1.5, 0, 0], [0, 1.6, 0.2], [0.1, 0, 1.7], [1.4, 1.5, 0.1], [1.3, 0.1, 1.6]]
    )
    return structure([6, 8, 7, 6, 1, 1], positions, fixed=fixed)


def crystal(fixed: Any = None) -> Structure:
    """Eight atoms of copper."""
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    return structure(atoms.numbers, atoms.positions, np.array(atoms.cell), fixed=fixed)


def conditions(thermostat: Thermostat | None, **changes: Any) -> MDConditions:
    """300 K, 1 fs, couplings that thermalise within some 20 fs."""
    values = {
        "temperature": 300.0,
        "timestep": 1.0,
        "friction": 0.05,
        "thermostat_time": 20.0,
        "andersen_prob": 0.05,
        "seed": 4,
    }
    return MDConditions(thermostat, **{**values, **changes})


class Alone:
    """Moves one trajectory of a system at a time, on an ASE calculator's forces."""

    def __init__(self, system: MDSystem, calculator: Any) -> None:
        self.system = system
        self.start = system.start
        self.conditions = system.conditions
        self._forces = forces_of_calculator(calculator)

    def advance(self, point: MDPoint, n_steps: int, generator: np.random.Generator) -> MDPoint:
        """The point some steps later; raises MDFailure."""
        (end,) = advance(
            [LiveTrajectory.at(point, generator)], [self.system], [n_steps], self._forces
        )
        if isinstance(end, MDFailure):
            raise end
        return end


def driver(
    system: Structure, thermostat: Thermostat | None, calculator: Any = None, **changes: Any
) -> Alone:
    """A system on springs, unless another calculator is given."""
    calculator = Springs(system.positions) if calculator is None else calculator
    return Alone(MDSystem(system, conditions(thermostat, **changes), GeometryLimits()), calculator)


def bits(point: MDPoint) -> tuple[Any, ...]:
    """Everything in a point, such that equal means bitwise equal."""
    thermostat = [(name, x.tobytes()) for name, x in sorted(point.thermostat.items())]
    return (
        point.positions.tobytes(),
        point.momenta.tobytes(),
        point.cell.tobytes(),
        *thermostat,
    )
