"""ASE's integrators under the conditions of the settings, where they count what can move.

Owns what is corrected in them, and the variables of a thermostat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ase import Atoms, units
from ase.md.andersen import Andersen
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import NoseHooverChainNVT, NoseHooverChainThermostat
from ase.md.nvtberendsen import NVTBerendsen
from ase.md.verlet import VelocityVerlet

from fhi_al.core.structure import Array, Structure

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
    own_integrator : callable or None
        ``(atoms, conditions, generator)`` -> an ASE integrator on the atoms, in place of those of
        the thermostats.  It is made anew for every block: what it knows besides positions and
        momenta does not last.  All its random numbers must come from the generator.

    Raises
    ------
    ValueError
        If the temperature or the timestep is not above zero: at 0 K everything stands still.
    """

    thermostat: Thermostat | None
    temperature: float
    timestep: float
    friction: float
    thermostat_time: float
    andersen_prob: float
    seed: int
    own_integrator: (
        Callable[[Atoms, MDConditions, np.random.Generator], MolecularDynamics] | None
    ) = None

    def __post_init__(self) -> None:
        for name, value in (("temperature", self.temperature), ("timestep", self.timestep)):
            if not value > 0:
                raise ValueError(f"MDConditions.{name} = {value:g}, expected more than 0")


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


def can_drift(structure: Structure) -> bool:
    """Whether the centre of mass can move, and is to be kept."""
    return not structure.fixed.any() and len(structure) > 1


def integrator(
    atoms: Atoms, structure: Structure, md: MDConditions, generator: np.random.Generator
) -> MolecularDynamics:
    """The integrator that moves `atoms`, which are of `structure`, with a fresh thermostat."""
    if md.own_integrator is not None:
        return md.own_integrator(atoms, md, generator)
    free, dof = can_drift(structure), degrees_of_freedom(structure)
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
            momenta = atoms.get_momenta()
            # Its constructor refuses to begin at rest, and does nothing else with momenta.
            atoms.set_momenta(np.ones_like(momenta))
            bussi = _Bussi(atoms, **thermal, taut=coupling, rng=generator)
            atoms.set_momenta(momenta, apply_constraint=False)
            bussi.ndof = dof
            bussi.target_kinetic_energy = 0.5 * units.kB * md.temperature * dof
            return bussi
        case "Berendsen":
            # It compares with ASE's temperature, which is of ASE's count.
            thermal["temperature_K"] *= dof / atoms.get_number_of_degrees_of_freedom()
            return _Berendsen(atoms, **thermal, taut=coupling, fixcm=free)
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


# Of the kinetic energy to reach: below it there is nothing that a factor could make larger, and the
# forces have to begin.  One degree of freedom is there in one step of a million, many never.
AT_REST = 1e-12


class _Bussi(Bussi):
    """ASE's divides by the kinetic energy, even if there is none."""

    def scale_velocities(self) -> None:
        if self.atoms.get_kinetic_energy() > AT_REST * self.target_kinetic_energy:
            super().scale_velocities()


class _Berendsen(NVTBerendsen):
    """ASE's divides by the temperature, even if there is none."""

    def scale_velocities(self) -> None:
        if self.atoms.get_temperature() > AT_REST * self.temperature:
            super().scale_velocities()


class _NoseHoover(NoseHooverChainNVT):
    """ASE's leaves the forces on fixed coordinates in its own copy of the momenta.

    They then heat its thermostat, and are gone in an integrator that is built anew.
    """

    def _get_forces(self) -> Array:
        self._update_atoms()
        forces: Array = self.atoms.get_forces()
        return forces


def thermostat_variables(dynamics: MolecularDynamics) -> dict[str, Array]:
    """A copy of the variables of the thermostat; empty if it has none."""
    if isinstance(dynamics, NoseHooverChainNVT):
        chain = dynamics._thermostat
        return {"eta": chain._eta.copy(), "p_eta": chain._p_eta.copy()}
    return {}


def restore_thermostat(dynamics: MolecularDynamics, variables: dict[str, Array]) -> None:
    """Put back what :func:`thermostat_variables` gave."""
    if isinstance(dynamics, NoseHooverChainNVT) and variables:
        dynamics._thermostat._eta = variables["eta"].copy()
        dynamics._thermostat._p_eta = variables["p_eta"].copy()
