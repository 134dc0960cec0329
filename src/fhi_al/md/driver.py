"""Advance one trajectory by a block of MD steps; `MDPoint` and the RNG are all that carries over.

A driver holds no state of a trajectory: the integrator is built anew for each block, which was
measured to be bitwise equal to one that lives on, and makes a resume exact by construction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from ase.calculators.calculator import BaseCalculator
from ase.constraints import FixCom
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary, ZeroRotation

from fhi_al.core.plausible import GeometryLimits
from fhi_al.core.structure import Array, Structure
from fhi_al.md.atoms import atoms_of
from fhi_al.md.integrators import (
    MDConditions,
    can_drift,
    integrator,
    restore_thermostat,
    thermostat_variables,
)
from fhi_al.md.validating import MDFailure, ValidatingCalculator

# The kinetic temperature of a small molecule fluctuates by tens of per cent; ten times the target
# is met only by a structure that is exploding, or by very few degrees of freedom.
HOTTEST = 10.0
# Minus the logarithm of the probability that these are as hot by chance.
_BY_CHANCE = 20.0


@dataclass(frozen=True, eq=False)
class MDPoint:
    """A point in phase space: all an integrator needs to go on, but the random stream.

    Parameters
    ----------
    positions : (n_atoms, 3)
        In A.
    momenta : (n_atoms, 3)
        In ASE's units (not velocities: the division by the mass is not exact).
    cell : (3, 3)
        In A.
    thermostat : dict of arrays
        Variables of the thermostat, where it has any.
    """

    positions: Array
    momenta: Array
    cell: Array
    thermostat: dict[str, Array] = field(default_factory=dict)


def random_stream(seed: int, *purpose: int) -> np.random.Generator:
    """An independent random stream for each purpose (phase, trajectory) under one seed."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *purpose])))


def hottest(degrees_of_freedom: int) -> float:
    """How many times hotter than its thermostat a system is that explodes.

    More than :data:`HOTTEST` with less than eight degrees of freedom: a kinetic energy of one, a
    chi square, exceeds that every 600th time.

    Notes
    -----
    A chi square of n exceeds n + 2 sqrt(n x) + 2 x with a probability below exp(-x) (Laurent and
    Massart, Annals of Statistics 28 (2000) 1302, lemma 1).
    """
    n, x = degrees_of_freedom, _BY_CHANCE
    return max(HOTTEST, (n + 2.0 * np.sqrt(n * x) + 2.0 * x) / n)


class Driver:
    """MD of one system under one set of conditions with a given calculator.

    Parameters
    ----------
    structure : Structure
    conditions : MDConditions
    calculator : ase calculator
        Called directly, never through its cache: its forces may change between blocks.
    limits : GeometryLimits
    between : callable
        Called before each force calculation, for what others have finished meanwhile.

    Raises
    ------
    ValueError
        If every coordinate of the structure is fixed.
    """

    def __init__(
        self,
        structure: Structure,
        conditions: MDConditions,
        calculator: BaseCalculator,
        limits: GeometryLimits,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        if structure.fixed.all():
            raise ValueError("Driver: every coordinate of the structure is fixed, nothing can move")
        self.structure = structure
        self.conditions = conditions
        self._calculator = calculator
        self._limits = limits
        self._between = between

    def start(self, generator: np.random.Generator) -> MDPoint:
        """The system's own geometry with velocities of the conditions' temperature."""
        atoms = atoms_of(self.structure)
        return self.new_velocities(
            MDPoint(atoms.positions.copy(), np.zeros((len(atoms), 3)), self.structure.cell.copy()),
            generator,
        )

    def new_velocities(self, point: MDPoint, generator: np.random.Generator) -> MDPoint:
        """The point with fresh velocities and a fresh thermostat."""
        atoms = atoms_of(self.structure, point.positions)
        MaxwellBoltzmannDistribution(
            atoms, temperature_K=self.conditions.temperature, rng=generator
        )
        if not atoms.constraints and len(atoms) > 1:
            # Not rescaled to ASE's temperature of before, which counts the drift in: measured at
            # 300 K, six atoms would start at 450 K, two at 1800 K.
            Stationary(atoms, preserve_temperature=False)
            if not self.structure.pbc:
                # A linear molecule has a moment of inertia of zero; ASE divides by it, for nothing.
                with np.errstate(invalid="ignore", divide="ignore"):
                    ZeroRotation(atoms, preserve_temperature=False)
        return replace(point, momenta=atoms.get_momenta(), thermostat={})

    @property
    def _keeps_centre_of_mass(self) -> bool:
        md = self.conditions
        return md.thermostat == "Langevin" and md.own_integrator is None

    def advance(self, point: MDPoint, n_steps: int, generator: np.random.Generator) -> MDPoint:
        """The point ``n_steps`` later.

        Raises
        ------
        MDFailure
            If a structure on the way makes no sense or has no forces; the random stream has then
            moved on, which is as it should be.
        """
        atoms = atoms_of(self.structure, point.positions)
        if can_drift(self.structure) and self._keeps_centre_of_mass:
            # Not Langevin's own fixcm=True: it samples the wrong distribution (ASE's own warning).
            atoms.set_constraint(FixCom())
        if self.structure.pbc:
            atoms.set_cell(point.cell)
        atoms.set_momenta(point.momenta, apply_constraint=False)
        # One for each block: several may be under way with the same driver.
        validating = ValidatingCalculator(
            self._calculator, self.structure, self._limits, self._between
        )
        atoms.calc = validating
        dynamics: Any = integrator(atoms, self.structure, self.conditions, generator)
        restore_thermostat(dynamics, point.thermostat)
        # Not run(): it asks for the forces once more after each step, for observers.
        for _ in range(n_steps):
            dynamics.step()
        validating.check(atoms)
        temperature = atoms.get_temperature()
        limit = hottest(atoms.get_number_of_degrees_of_freedom()) * self.conditions.temperature
        if temperature > limit:
            raise MDFailure(
                f"the temperature is {temperature:.0f} K, at most {limit:.0f} K was expected"
            )
        return MDPoint(
            atoms.positions.copy(),
            atoms.get_momenta(),
            np.array(atoms.cell) if self.structure.pbc else point.cell,
            thermostat_variables(dynamics),
        )
