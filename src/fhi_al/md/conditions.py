"""Under which conditions a trajectory moves, and how many of its coordinates can."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from fhi_al.core.schedule import Quantity, Schedule, lowest, value_at
from fhi_al.core.structure import Structure

Thermostat = Literal["Langevin", "Berendsen", "Andersen", "Bussi", "NoseHoover"]
Barostat = Literal["MTK", "MTKFlexible", "CellRescaling", "Berendsen"]


@dataclass(frozen=True)
class MDConditions:
    """One MD block of the settings.

    Parameters
    ----------
    thermostat : str or None
        None is NVE.
    temperature : float or Schedule
        In K; of the starting velocities too.  A schedule goes by the MD steps of a trajectory.
    timestep : float
        In fs.
    friction : float
        Of Langevin, in 1/fs.
    thermostat_time : float
        Coupling time of Berendsen, Bussi, NoseHoover and the barostats MTK, in fs.
    andersen_prob : float
        Probability of a collision per degree of freedom and step.
    seed : int
        All random streams of the block derive from it.
    own_integrator : callable or Integrator or None
        In place of those of the thermostats: a :class:`fhi_al.md.integrator.Integrator`, or a
        function ``(atoms, conditions, generator)`` -> an ASE integrator on the atoms, see
        :mod:`fhi_al.md.ase_integrator`.
    barostat : str or None
        None is a constant cell.
    pressure : float or Schedule
        In eV/A^3.
    barostat_time : float
        Coupling time of the barostat, in fs.
    compressibility : float
        Of CellRescaling and Berendsen, in A^3/eV; a guess will do, it scales their coupling time.
    name : str
        Of the block; labels of its trajectories have it.

    Raises
    ------
    ValueError
        If the temperature or the timestep is not above zero: at 0 K everything stands still.
    """

    thermostat: Thermostat | None
    temperature: Quantity
    timestep: float
    friction: float
    thermostat_time: float
    andersen_prob: float
    seed: int
    own_integrator: Callable[..., Any] | Any | None = None
    barostat: Barostat | None = None
    pressure: Quantity = 0.0
    barostat_time: float = 1000.0
    compressibility: float = 1.0
    name: str = ""

    def __post_init__(self) -> None:
        least = lowest(self.temperature)
        for name, value in (("temperature", least), ("timestep", self.timestep)):
            if not value > 0:
                raise ValueError(f"MDConditions.{name} = {value:g}, expected more than 0")

    @property
    def is_scheduled(self) -> bool:
        """Whether temperature or pressure change with the MD steps of a trajectory."""
        return isinstance(self.temperature, Schedule) or isinstance(self.pressure, Schedule)

    def at(self, step: int) -> MDConditions:
        """The conditions at an MD step of a trajectory, with plain numbers."""
        if not self.is_scheduled:
            return self
        return replace(
            self,
            temperature=value_at(self.temperature, step),
            pressure=value_at(self.pressure, step),
        )


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
