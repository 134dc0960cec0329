"""A trajectory in phase space: its point, the point it may go back to, and its random stream."""

from __future__ import annotations

from typing import Any

import numpy as np

from fhi_al.core.structure import Array
from fhi_al.md.point import MDPoint
from fhi_al.md.system import MDSystem

# Point, restart point, forces, state of the random stream.
Kept = tuple[MDPoint, MDPoint, Array | None, dict[str, Any]]


class LiveTrajectory:
    """One trajectory in phase space.

    Parameters
    ----------
    point : MDPoint
        Where it is.
    restart_point : MDPoint
        The last good point: its start, or the last point whose label was accepted.
    generator : numpy.random.Generator
        Its own; shared streams make trajectories synchronise into copies of one another.
    forces : (n_members, n_atoms, 3) or None
        Of the members of the ensemble at the point, in eV/A; None if their weights have changed
        since, or they were never computed.

    Attributes
    ----------
    energy : float or None
        Mean of the members' energies, in eV, where the last move on all members' forces ended; for
        the record, and saved nowhere.
    """

    def __init__(
        self,
        point: MDPoint,
        restart_point: MDPoint,
        generator: np.random.Generator,
        forces: Array | None = None,
    ) -> None:
        self.point = point
        self.restart_point = restart_point
        self.forces = forces
        self.energy: float | None = None
        self._generator = generator
        # Of the stream, for as long as nobody can have drawn from it since.
        self._random_state: dict[str, Any] | None = None

    @property
    def generator(self) -> np.random.Generator:
        """Its random stream; who takes it may draw from it until the step of the run is over."""
        self._random_state = None
        return self._generator

    @classmethod
    def start(
        cls, system: MDSystem, generator: np.random.Generator, start: int = 0
    ) -> LiveTrajectory:
        """At one of the system's starting geometries with velocities from its stream."""
        return cls.at(system.start(generator, start), generator)

    @classmethod
    def at(cls, point: MDPoint, generator: np.random.Generator) -> LiveTrajectory:
        """At a point, to which it may also go back."""
        return cls(point, point, generator)

    def kept(self) -> Kept:
        """What :meth:`put_back` takes; a point never changes, a random stream does.

        Cheap where nothing has moved, for it is called for every trajectory before every step.
        """
        return self.point, self.restart_point, self.forces, self.random_state()

    def put_back(self, kept: Kept) -> None:
        """Be as it was when that was kept."""
        self.point, self.restart_point, self.forces, self._random_state = kept
        self._generator.bit_generator.state = self._random_state

    def roll_back(self, system: MDSystem, step: int = 0) -> None:
        """Return to the last good point with new velocities; the random stream goes on.

        Parameters
        ----------
        system : MDSystem
        step : int
            MD steps done, discarded ones included: by them a schedule goes.
        """
        self.point = system.new_velocities(self.restart_point, self.generator, step)
        self.forces = None

    def arrays(self, prefix: str) -> dict[str, Array]:
        """Both points and the forces as named arrays, for a snapshot."""
        forces = {} if self.forces is None else {f"{prefix}/forces": self.forces}
        return (
            _arrays(f"{prefix}/point", self.point)
            | _arrays(f"{prefix}/restart_point", self.restart_point)
            | forces
        )

    def random_state(self) -> dict[str, Any]:
        """State of the random stream, as plain numbers."""
        if self._random_state is None:
            self._random_state = dict(self._generator.bit_generator.state)
        return self._random_state

    @classmethod
    def from_arrays(
        cls, prefix: str, arrays: dict[str, Array], random_state: dict[str, Any]
    ) -> LiveTrajectory:
        """The trajectory that ``arrays`` and ``random_state`` came from."""
        generator = np.random.Generator(np.random.PCG64())
        generator.bit_generator.state = random_state
        return cls(
            _point(f"{prefix}/point", arrays),
            _point(f"{prefix}/restart_point", arrays),
            generator,
            arrays.get(f"{prefix}/forces"),
        )


def _arrays(prefix: str, point: MDPoint) -> dict[str, Array]:
    thermostat = {f"{prefix}/thermostat/{name}": x for name, x in point.thermostat.items()}
    return {
        f"{prefix}/positions": point.positions,
        f"{prefix}/momenta": point.momenta,
        f"{prefix}/cell": point.cell,
    } | thermostat


def _point(prefix: str, arrays: dict[str, Array]) -> MDPoint:
    thermostat = f"{prefix}/thermostat/"
    return MDPoint(
        positions=arrays[f"{prefix}/positions"],
        momenta=arrays[f"{prefix}/momenta"],
        cell=arrays[f"{prefix}/cell"],
        thermostat={
            name.removeprefix(thermostat): x
            for name, x in arrays.items()
            if name.startswith(thermostat)
        },
    )
