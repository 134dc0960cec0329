"""One system under one set of conditions: its starts, its constants, what makes no sense in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from ase import units
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary, ZeroRotation

from fhi_al.core.plausible import GeometryLimits
from fhi_al.core.schedule import value_at
from fhi_al.core.structure import Array, Structure
from fhi_al.md.atoms import atoms_of, radii_of
from fhi_al.md.conditions import MDConditions, can_drift, degrees_of_freedom
from fhi_al.md.integrator import Integrator
from fhi_al.md.integrators import integrator_of
from fhi_al.md.point import MDPoint
from fhi_al.md.state import Constants


@dataclass(frozen=True, eq=False)
class MDSystem:
    """A system that MD moves.

    Parameters
    ----------
    structure : Structure
    conditions : MDConditions
    limits : GeometryLimits
    name : str
        Of the system; empty if the run has one without a name.
    starts : tuple of (positions, cell)
        Where its trajectories begin, in A; empty: at the structure.

    Raises
    ------
    ValueError
        If every coordinate of the structure is fixed, or the cell of a molecule, or of a crystal
        with fixed coordinates, is to move.
    """

    structure: Structure
    conditions: MDConditions
    limits: GeometryLimits
    name: str = ""
    starts: tuple[tuple[Array, Array], ...] = ()

    def __post_init__(self) -> None:
        fixed = self.structure.fixed
        if fixed.all():
            raise ValueError(
                "MDSystem: every coordinate of the structure is fixed, nothing can move"
            )
        if self.needs_stress and (fixed.any() or not self.structure.pbc):
            raise ValueError(
                "MDSystem: a barostat needs a periodic structure without fixed coordinates"
            )

    @cached_property
    def integrator(self) -> Integrator:
        """What moves it."""
        return integrator_of(self.conditions)

    @property
    def needs_stress(self) -> bool:
        """Whether its scheme needs the stress besides the forces."""
        return self.integrator.needs_stress or self.conditions.barostat is not None

    @cached_property
    def radii(self) -> Array:
        """Covalent radii in A, (n_atoms,)."""
        return radii_of(self.structure)

    @cached_property
    def masses(self) -> Array:
        """In u, (n_atoms,)."""
        return np.array(atoms_of(self.structure).get_masses())

    @cached_property
    def constants(self) -> Constants:
        """Of one trajectory of it that begins; see :mod:`fhi_al.md.targets`."""
        n_atoms, md, masses = len(self.structure), self.conditions, self.masses
        return Constants(
            owner=np.zeros(n_atoms, dtype=np.int64),
            masses=masses[:, None],
            free=~self.structure.fixed,
            keeps_centre=np.array([can_drift(self.structure)]),
            degrees_of_freedom=np.array([float(degrees_of_freedom(self.structure))]),
            n_atoms=np.array([float(n_atoms)]),
            total_mass=np.array([masses.sum()]),
            timestep=np.array([md.timestep * units.fs]),
            temperature=np.array([value_at(md.temperature, 0) * units.kB]),
            friction=np.array([md.friction / units.fs]),
            collision_probability=np.array([md.andersen_prob]),
            thermostat_time=np.array([md.thermostat_time * units.fs]),
            barostat_time=np.array([md.barostat_time * units.fs]),
            pressure=np.array([value_at(md.pressure, 0)]),
            compressibility=np.array([md.compressibility]),
        )

    def temperature(self, point: MDPoint) -> float:
        """Of a point's motion, in K.

        Shared among the coordinates that can move; but for the centre of mass where it is held, and
        for a rotation that nothing starts.
        """
        kinetic = 0.5 * float((point.momenta**2 / self.masses[:, None]).sum())
        n = degrees_of_freedom(self.structure)
        if self.conditions.thermostat in ("Langevin", "Andersen"):  # which turn a molecule, too
            n = int((~self.structure.fixed).sum()) - 3 * can_drift(self.structure)
        return 2 * kinetic / (n * units.kB)

    def start(self, generator: np.random.Generator, start: int = 0) -> MDPoint:
        """A starting geometry, by its index, with velocities of the conditions' temperature."""
        starts = self.starts or ((self.structure.positions, self.structure.cell),)
        positions, cell = starts[start]
        point = MDPoint(positions.copy(), np.zeros_like(positions), cell.copy())
        return self.new_velocities(point, generator)

    def new_velocities(
        self, point: MDPoint, generator: np.random.Generator, step: int = 0
    ) -> MDPoint:
        """The point with fresh velocities and a fresh thermostat, at an MD step."""
        atoms = atoms_of(self.structure, point.positions)
        temperature = value_at(self.conditions.temperature, step)
        MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=generator)
        if not atoms.constraints and len(atoms) > 1:
            # Not rescaled to ASE's temperature of before, which counts the drift in: measured at
            # 300 K, six atoms would start at 450 K, two at 1800 K.
            Stationary(atoms, preserve_temperature=False)
            if not self.structure.pbc:
                # A linear molecule has a moment of inertia of zero; ASE divides by it, for nothing.
                with np.errstate(invalid="ignore", divide="ignore"):
                    ZeroRotation(atoms, preserve_temperature=False)
        return replace(point, momenta=atoms.get_momenta(), thermostat={})
