"""All trajectories that move together under one scheme, as arrays over their atoms.

Owns how they are put together and taken apart; moves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from fhi_al.md.arrays import sums
from fhi_al.md.point import MDPoint


@dataclass(frozen=True, eq=False)
class Constants:
    """What a step does not change; NumPy arrays, or torch tensors.

    Temperatures and pressures that follow a schedule are others in the next step.

    Parameters
    ----------
    owner : (n_atoms,)
        The trajectory of each atom.
    masses : (n_atoms, 1)
        In u.
    free : (n_atoms, 3)
        True where a coordinate may move.
    keeps_centre : (n_trajectories,)
        True where the centre of mass can move, and is to be kept by a scheme that would move it.
    degrees_of_freedom : (n_trajectories,)
        That share the kinetic energy.
    n_atoms, total_mass : (n_trajectories,)
    timestep, temperature : (n_trajectories,)
        In A sqrt(u/eV) and, times k_B, in eV.
    friction, collision_probability : (n_trajectories,)
        Per A sqrt(u/eV), and per step.
    thermostat_time, barostat_time : (n_trajectories,)
        In A sqrt(u/eV).
    pressure, compressibility : (n_trajectories,)
        In eV/A^3 and A^3/eV.
    """

    owner: Any
    masses: Any
    free: Any
    keeps_centre: Any
    degrees_of_freedom: Any
    n_atoms: Any
    total_mass: Any
    timestep: Any
    temperature: Any
    friction: Any
    collision_probability: Any
    thermostat_time: Any
    barostat_time: Any
    pressure: Any
    compressibility: Any

    def __len__(self) -> int:
        return len(self.n_atoms)

    def of_atoms(self, values: Any) -> Any:
        """Values of trajectories, (n_trajectories, ...), for each atom: (n_atoms, ...) or, of
        plain numbers, (n_atoms, 1)."""
        spread = values[self.owner]
        return spread[:, None] if spread.ndim == 1 else spread

    def sum(self, values: Any) -> Any:
        """Sums over each trajectory's atoms: (n_trajectories,) or (n_trajectories, 3)."""
        return sums(values, self.owner, len(self))

    def kinetic_energy(self, momenta: Any) -> Any:
        """In eV, (n_trajectories,)."""
        square = momenta * momenta
        return self.sum((square[:, 0] + square[:, 1] + square[:, 2]) / self.masses[:, 0]) * 0.5

    def centre(self, values: Any) -> Any:
        """Of mass, of positions or velocities (n_atoms, 3), for each atom; 0 where it may move."""
        mean = self.sum(values * self.masses) / self.total_mass[:, None]
        return self.of_atoms(mean * self.keeps_centre[:, None])

    def take(self, kept: Sequence[int]) -> Constants:
        """Those of some trajectories."""
        atoms, owner = atoms_of_kept(self.owner, kept)
        taken = {
            one.name: getattr(self, one.name)[atoms if one.name in _OF_ATOMS else list(kept)]
            for one in fields(self)
            if one.name != "owner"
        }
        return Constants(owner=owner, **taken)


_OF_ATOMS = ("masses", "free")


@dataclass(frozen=True, eq=False)
class MDState:
    """Where trajectories are.

    Parameters
    ----------
    positions, momenta : (n_atoms, 3)
        Of all trajectories, one after the other; in A and in ASE's units.
    cells : (n_trajectories, 3, 3)
        In A; of a molecule zeros.
    variables : dict
        Of thermostats and barostats, by name: (n_trajectories, ...).
    """

    positions: Any
    momenta: Any
    cells: Any
    variables: dict[str, Any]

    def take(self, owner: Any, kept: Sequence[int]) -> MDState:
        """Some of the trajectories; `owner` is that of :class:`Constants` before."""
        atoms, _ = atoms_of_kept(owner, kept)
        chosen = list(kept)
        return MDState(
            self.positions[atoms],
            self.momenta[atoms],
            self.cells[chosen],
            {name: values[chosen] for name, values in self.variables.items()},
        )


def atoms_of_kept(owner: Any, kept: Sequence[int]) -> tuple[Any, Any]:
    """Places of the atoms of some trajectories (ascending), and their new owners."""
    places = np.full(int(owner.max()) + 1, -1)
    places[list(kept)] = np.arange(len(kept))
    atoms = np.flatnonzero(places[owner] >= 0)
    return atoms, places[owner[atoms]]


def concatenated(constants: Sequence[Constants]) -> Constants:
    """Constants of trajectories, put together."""
    counts = [len(one) for one in constants]
    starts = np.cumsum([0, *counts[:-1]])
    together = {
        one.name: np.concatenate([getattr(each, one.name) for each in constants])
        for one in fields(Constants)
        if one.name != "owner"
    }
    owner = [each.owner + start for each, start in zip(constants, starts, strict=True)]
    return Constants(owner=np.concatenate(owner), **together)


def state_of(points: Sequence[MDPoint], variables: dict[str, tuple[int, ...]]) -> MDState:
    """Points put together.

    Parameters
    ----------
    points : sequence of MDPoint
    variables : dict
        Name -> shape of the scheme's variables; zero in a point that has none yet.
    """
    return MDState(
        np.concatenate([point.positions for point in points]),
        np.concatenate([point.momenta for point in points]),
        np.stack([point.cell for point in points]),
        {
            name: np.stack([point.thermostat.get(name, np.zeros(shape)) for point in points])
            for name, shape in variables.items()
        },
    )


def point_of(state: MDState, owner: Any, place: int) -> MDPoint:
    """One trajectory's point, in arrays of its own."""
    atoms = owner == place
    return MDPoint(
        state.positions[atoms],
        state.momenta[atoms],
        state.cells[place].copy(),
        {name: np.array(values[place]) for name, values in state.variables.items()},
    )
