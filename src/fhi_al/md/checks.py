"""Whether moving structures make sense: overlap, flown apart, not finite, too hot, another cell.

Looks at the arrays of all trajectories at once, and at a structure of its own only where it is in
doubt, so that what is said is what :func:`fhi_al.core.plausible.geometry_problem` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from ase import units
from numpy.typing import NDArray

from fhi_al.core.neighbours import shortest_height
from fhi_al.core.plausible import geometry_problem
from fhi_al.core.schedule import highest
from fhi_al.core.structure import Array
from fhi_al.md.state import Constants, MDState
from fhi_al.md.system import MDSystem

Flags = NDArray[np.bool_]

# The kinetic temperature of a small molecule fluctuates by tens of per cent; ten times the target
# is met only by a structure that is exploding, or by very few degrees of freedom.
HOTTEST = 10.0
# Minus the logarithm of the probability that these are as hot by chance.
_BY_CHANCE = 20.0
# Of the volume that a crystal starts with: below, it has collapsed, above, exploded.
SMALLEST, LARGEST = 0.5, 2.0
# Squares of distances that are looked at together.
_AT_ONCE = 2_000_000


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


def structure_problems(systems: Sequence[MDSystem], state: MDState) -> dict[int, str]:
    """Why structures make no sense, by their places among the trajectories of the state.

    Parameters
    ----------
    systems : sequence of MDSystem
        Of each trajectory.
    state : MDState
    """
    ends = np.cumsum([len(system.structure) for system in systems])
    positions = np.split(state.positions, ends[:-1])
    alike: dict[int, list[int]] = {}
    for place, system in enumerate(systems):
        alike.setdefault(id(system), []).append(place)
    found: dict[int, str] = {}
    for places in alike.values():
        system = systems[places[0]]
        sane = _sane(system, [positions[place] for place in places], state.cells[places])
        for place in np.array(places)[~sane].tolist():
            problem = cell_problem(system, state.cells[place]) or geometry_problem(
                positions[place],
                state.cells[place],
                system.structure.pbc,
                system.radii,
                system.limits,
            )
            if problem is not None:
                found[place] = problem
    return dict(sorted(found.items()))


def cell_problem(system: MDSystem, cell: Array) -> str | None:
    """Why a cell makes no sense that a barostat has moved; None if it does."""
    own = system.structure.cell
    if not system.structure.pbc or np.array_equal(cell, own) or not np.isfinite(cell).all():
        return None
    volume, start = (abs(float(np.linalg.det(one))) for one in (cell, own))
    if volume < SMALLEST * start or shortest_height(cell) < SMALLEST * shortest_height(own):
        return (
            f"the cell has collapsed: its volume is {volume:.1f} A^3, its lowest height "
            f"{shortest_height(cell) if volume else 0.0:.2f} A, at least half of what it started "
            f"with was expected ({start:.1f} A^3, {shortest_height(own):.2f} A)"
        )
    if volume > LARGEST * start:
        return (
            f"the cell has exploded: its volume is {volume:.1f} A^3, at most {LARGEST:g} times "
            f"that of the start ({start:.1f} A^3) was expected"
        )
    return None


def heat_problems(
    systems: Sequence[MDSystem], state: MDState, constants: Constants
) -> dict[int, str]:
    """Which trajectories are too hot, by their places."""
    kinetic = constants.kinetic_energy(state.momenta)
    found = {}
    for place, (system, energy) in enumerate(zip(systems, kinetic.tolist(), strict=True)):
        # As ASE counts: all that are not fixed, but for a centre of mass that Langevin holds.
        n = 3 * len(system.structure) - int(system.structure.fixed.sum())
        md = system.conditions
        holds = md.thermostat == "Langevin" and md.own_integrator is None
        if holds and constants.keeps_centre[place]:
            n -= 3
        temperature = 2 * energy / (n * units.kB)
        limit = hottest(n) * highest(system.conditions.temperature)
        if not temperature <= limit:
            found[place] = (
                f"the temperature is {temperature:.0f} K, at most {limit:.0f} K was expected"
            )
    return found


def _sane(system: MDSystem, positions: Sequence[Array], cells: Array) -> Flags:
    """Which structures of one system are beyond doubt, (n_trajectories,)."""
    n_atoms = len(system.structure)
    doubtful = np.zeros(len(positions), dtype=bool)
    if not 1 < n_atoms <= 250:
        return doubtful
    step = max(1, _AT_ONCE // n_atoms**2)
    judged = _sane_crystals if system.structure.pbc else _sane_molecules
    return np.concatenate(
        [
            judged(system, np.stack(positions[at : at + step]), cells[at : at + step])
            for at in range(0, len(positions), step)
        ]
    )


@lru_cache(maxsize=8)
def _all_pairs(n_atoms: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Places of the first and the second atom of every pair."""
    return np.triu_indices(n_atoms, 1)


def _sane_molecules(system: MDSystem, positions: Array, cells: Array) -> Flags:
    first, second = _all_pairs(positions.shape[1])
    squares = _squares(positions[:, first] - positions[:, second])
    allowed = system.limits.min_distance * (system.radii[first] + system.radii[second])
    apart: Flags = np.all(squares > allowed**2, axis=1)
    # NaN is not below anything.
    together: Flags = np.all(squares < system.limits.max_distance**2, axis=1)
    for place in np.flatnonzero(apart & ~together):
        nearest = np.full(positions.shape[1:2] * 2, np.inf)
        nearest[first, second] = nearest[second, first] = squares[place]
        together[place] = (nearest.min(axis=1) < system.limits.max_distance**2).all()
    sane: Flags = apart & together
    return sane


def _sane_crystals(system: MDSystem, positions: Array, cells: Array) -> Flags:
    """By the nearest images, which are those of rounding below half of the lowest height."""
    first, second = _all_pairs(positions.shape[1])
    allowed = system.limits.min_distance * (system.radii[first] + system.radii[second])
    sane: Flags = np.logical_and(
        np.isfinite(cells).all(axis=(1, 2)), np.isfinite(positions).all(axis=(1, 2))
    )
    own = np.array_equal(cells, np.broadcast_to(system.structure.cell, cells.shape))
    for place in np.flatnonzero(sane):
        cell = cells[place]
        if not own and cell_problem(system, cell) is not None:
            sane[place] = False
            continue
        inverse = np.linalg.inv(cell)
        lowest = 1.0 / np.linalg.norm(inverse, axis=0).max()
        fractional = (positions[place, first] - positions[place, second]) @ inverse
        squares = _squares((fractional - np.round(fractional)) @ cell)
        sane[place] = 2.0 * system.limits.min_distance * system.radii.max() < lowest / 2 and bool(
            (squares > allowed**2).all()
        )
    return sane


def _squares(vectors: Array) -> Array:
    squares: Array = vectors[..., 0] ** 2 + vectors[..., 1] ** 2 + vectors[..., 2] ** 2
    return squares
