"""Advance one trajectory by a block of MD steps; `MDPoint` and the RNG are all that carries over.

A driver holds no state of a trajectory: the integrator is built anew for each block, which was
measured to be bitwise equal to one that lives on, and makes a resume exact by construction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import BaseCalculator, Calculator, all_changes
from ase.constraints import FixCom
from ase.md.andersen import Andersen
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import NoseHooverChainNVT, NoseHooverChainThermostat
from ase.md.nvtberendsen import NVTBerendsen
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary, ZeroRotation
from ase.md.verlet import VelocityVerlet

from fhi_al.core.plausible import GeometryLimits, geometry_problem
from fhi_al.core.structure import Array, Structure
from fhi_al.md.atoms import atoms_of, radii_of

# The kinetic temperature of a small molecule fluctuates by tens of per cent; ten times the target
# is met only by a structure that is exploding.
HOTTEST = 10.0

Thermostat = Literal["Langevin", "Berendsen", "Andersen", "Bussi", "NoseHoover"]


@dataclass(frozen=True)
class MDConditions:
    """One MD block of the settings.

    Parameters
    ----------
    thermostat : str or None
        None is NVE.
    temperature : float
        In K; of the starting velocities too.
    timestep : float
        In fs.
    friction : float
        Of Langevin, in 1/fs.
    thermostat_time : float
        Coupling time of Berendsen, Bussi and NoseHoover, in fs.
    andersen_prob : float
        Probability of a collision per degree of freedom and step.
    seed : int
        All random streams of the block derive from it.
    """

    thermostat: Thermostat | None
    temperature: float
    timestep: float
    friction: float
    thermostat_time: float
    andersen_prob: float
    seed: int


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


class MDFailure(RuntimeError):
    """The block ended in a structure that makes no sense, or its forces could not be had."""


def random_stream(seed: int, *purpose: int) -> np.random.Generator:
    """An independent random stream for each purpose (phase, trajectory) under one seed."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *purpose])))


def degrees_of_freedom(structure: Structure) -> int:
    """Coordinates among which a thermostat shares the kinetic energy.

    All that are not fixed; where none is, less those of the centre of mass and of a molecule's
    rotation: their momenta start as zero, and forces and a common factor leave them so.
    """
    moving = int((~structure.fixed).sum())
    if structure.fixed.any() or len(structure) == 1:
        return moving
    if structure.pbc:
        return moving - 3
    centred = structure.positions - structure.positions.mean(axis=0)
    is_linear = np.linalg.matrix_rank(centred, tol=1e-3) < 2
    return moving - (5 if is_linear else 6)


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
    """

    def __init__(
        self,
        structure: Structure,
        conditions: MDConditions,
        calculator: BaseCalculator,
        limits: GeometryLimits,
        between: Callable[[], None] = lambda: None,
    ) -> None:
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
                ZeroRotation(atoms, preserve_temperature=False)
        return replace(point, momenta=atoms.get_momenta(), thermostat={})

    def advance(self, point: MDPoint, n_steps: int, generator: np.random.Generator) -> MDPoint:
        """The point ``n_steps`` later.

        Raises
        ------
        MDFailure
            If a structure on the way makes no sense or has no forces; the random stream has then
            moved on, which is as it should be.
        """
        atoms = atoms_of(self.structure, point.positions)
        if self._is_free and self.conditions.thermostat == "Langevin":
            # Not Langevin's own fixcm=True: it samples the wrong distribution (ASE's own warning).
            atoms.set_constraint(FixCom())
        if self.structure.pbc:
            atoms.set_cell(point.cell)
        atoms.set_momenta(point.momenta, apply_constraint=False)
        # One for each block: several may be under way with the same driver.
        guarded = _Guarded(self._calculator, self.structure, self._limits, self._between)
        atoms.calc = guarded
        dynamics: Any = self._dynamics(atoms, generator)
        _restore(dynamics, point.thermostat)
        # Not run(): it asks for the forces once more after each step, for observers.
        for _ in range(n_steps):
            dynamics.step()
        guarded.check(atoms)
        hottest = HOTTEST * self.conditions.temperature
        if atoms.get_temperature() > hottest:
            raise MDFailure(
                f"the temperature is {atoms.get_temperature():.0f} K, at most {hottest:.0f} K "
                "was expected"
            )
        return MDPoint(
            atoms.positions.copy(),
            atoms.get_momenta(),
            np.array(atoms.cell) if self.structure.pbc else point.cell,
            _thermostat_variables(dynamics),
        )

    def _dynamics(self, atoms: Atoms, generator: np.random.Generator) -> MolecularDynamics:
        md, free = self.conditions, self._is_free
        dof = degrees_of_freedom(self.structure)
        common: dict[str, Any] = {"timestep": md.timestep * units.fs}
        thermal: dict[str, Any] = {**common, "temperature_K": md.temperature}
        coupling = md.thermostat_time * units.fs
        match md.thermostat:
            case None:
                return VelocityVerlet(atoms, **common)
            case "Langevin":
                friction = md.friction / units.fs
                return Langevin(atoms, **thermal, friction=friction, fixcm=False, rng=generator)
            case "Andersen":
                return Andersen(
                    atoms, **thermal, andersen_prob=md.andersen_prob, fixcm=free, rng=generator
                )
            # ASE's other thermostats count degrees of freedom that cannot move: measured, a free
            # molecule of six atoms was 50 % too hot, one with half its atoms fixed 70 %.
            case "Bussi":
                bussi = Bussi(atoms, **thermal, taut=coupling, rng=generator)
                bussi.ndof = dof
                bussi.target_kinetic_energy = 0.5 * units.kB * md.temperature * dof
                return bussi
            case "Berendsen":
                # It compares with ASE's temperature, which is of ASE's count.
                thermal["temperature_K"] *= dof / atoms.get_number_of_degrees_of_freedom()
                return NVTBerendsen(atoms, **thermal, taut=coupling, fixcm=free)
            case "NoseHoover":
                nose_hoover = _NoseHoover(atoms, **thermal, tdamp=coupling)
                # A third of a number of atoms is as good: it is only ever multiplied by three.
                nose_hoover._thermostat = NoseHooverChainThermostat(
                    num_atoms_global=dof / 3,  # type: ignore[arg-type]
                    masses=nose_hoover.masses,
                    temperature_K=md.temperature,
                    tdamp=coupling,
                )
                return nose_hoover

    @property
    def _is_free(self) -> bool:
        return not self.structure.fixed.any() and len(self.structure) > 1


class _NoseHoover(NoseHooverChainNVT):
    """ASE's leaves the forces on fixed coordinates in its own copy of the momenta.

    They then heat its thermostat, and are gone in an integrator that is built anew.
    """

    def _get_forces(self) -> Array:
        self._update_atoms()
        forces: Array = self.atoms.get_forces()
        return forces


class _Guarded(Calculator):
    """Hands a structure to the real calculator only if it makes sense, and checks the forces."""

    implemented_properties = ["forces"]  # noqa: RUF012 (ASE's own interface)

    def __init__(
        self,
        calculator: BaseCalculator,
        structure: Structure,
        limits: GeometryLimits,
        between: Callable[[], None],
    ) -> None:
        super().__init__()
        self._calculator = calculator
        self._pbc = structure.pbc
        self._radii = radii_of(structure)
        self._limits = limits
        self._between = between
        self._copy: Atoms | None = None

    def check(self, atoms: Atoms) -> None:
        problem = geometry_problem(
            atoms.positions, atoms.cell.array, self._pbc, self._radii, self._limits
        )
        if problem is not None:
            raise MDFailure(problem)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What has changed since the last calculation; ASE asks three times in every step.

        Its own comparison of all that atoms have takes twice as long as the integrator.
        """
        if self.atoms is None:
            return list(all_changes)
        same = (atoms.positions == self.atoms.positions).all() and (
            atoms.cell.array == self.atoms.cell.array
        ).all()
        return [] if same else ["positions", "cell"]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        assert atoms is not None
        if self._copy is None:
            # Without the constraints, which ASE's own copy would take along.
            self._copy = Atoms(atoms.numbers, cell=atoms.cell, pbc=atoms.pbc)
        # The same object in every step: making a new one takes half as long as the integrator.
        self._copy.positions[:] = atoms.positions
        self._copy.cell[:] = atoms.cell.array
        self.atoms = self._copy
        self._between()
        self.check(self.atoms)
        self._calculator.calculate(self.atoms, ["forces"], all_changes)
        forces = np.array(self._calculator.results["forces"])
        if not np.isfinite(forces).all():
            raise MDFailure("the forces are not finite")
        self.results = {"forces": forces}


def _thermostat_variables(dynamics: MolecularDynamics) -> dict[str, Array]:
    if isinstance(dynamics, NoseHooverChainNVT):
        chain = dynamics._thermostat
        return {"eta": chain._eta.copy(), "p_eta": chain._p_eta.copy()}
    return {}


def _restore(dynamics: MolecularDynamics, variables: dict[str, Array]) -> None:
    if isinstance(dynamics, NoseHooverChainNVT) and variables:
        dynamics._thermostat._eta = variables["eta"].copy()
        dynamics._thermostat._p_eta = variables["p_eta"].copy()
