"""Many copies of a crystal of springs as arrays: its energy, forces, stress and bulk modulus."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from ase import units

from fhi_al.core.plausible import GeometryLimits
from fhi_al.core.structure import Array, structure
from fhi_al.md.conditions import MDConditions
from fhi_al.md.integrator import Forces, Integrator, Noise
from fhi_al.md.state import Constants, MDState, concatenated
from fhi_al.md.system import MDSystem

FS = units.fs
STIFFNESS = 1.0  # eV/A^2
LENGTH = 2.5  # A
VOLUME = 4 * LENGTH**3 / np.sqrt(2)  # A^3, of the cubic cell of four atoms
# E = 24 k (r - r0)^2 / 2 and V = 4 r^3 / sqrt(2): B = V d^2E/dV^2 at r0.
BULK_MODULUS = 4 * STIFFNESS / (3 * np.sqrt(2) * LENGTH)  # eV/A^3
SITES = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


def _bonds() -> tuple[Any, Any, Array]:
    """First and second atom of each bond to a nearest neighbour, and the cell of the second."""
    found = []
    cells = [np.array(c) for c in np.ndindex(3, 3, 3)]
    for i in range(4):
        for j in range(4):
            for cell in cells:
                vector = SITES[j] + (cell - 1) - SITES[i]
                near = abs(np.linalg.norm(vector) - np.sqrt(0.5)) < 1e-6
                if near and (i, j, *vector) < (j, i, *-vector):
                    found.append((i, j, cell - 1))
    first, second, shifts = zip(*found, strict=True)
    return np.array(first), np.array(second), np.array(shifts, dtype=float)


FIRST, SECOND, SHIFTS = _bonds()
CUBE = np.eye(3) * np.sqrt(2) * LENGTH


def constants(n: int, n_atoms: int = 4, masses: Any = 40.0, **changes: float) -> Constants:
    """Of `n` trajectories of a periodic system, by MD conditions of which some are changed.

    Their names and units are those of :class:`fhi_al.md.conditions.MDConditions`, but for the
    pressure, which is in GPa.
    """
    values: dict[str, Any] = {
        "temperature": 100.0,
        "timestep": 4.0,
        "friction": 0.01,
        "thermostat_time": 60.0,
        "andersen_prob": 0.05,
        "seed": 0,
        "barostat_time": 150.0,
        "compressibility": 1 / BULK_MODULUS,
        **changes,
        "pressure": changes.get("pressure", 0.0) * units.GPa,
    }
    mass = np.broadcast_to(np.asarray(masses, dtype=float), (n_atoms,))
    sites = np.arange(3 * n_atoms).reshape(n_atoms, 3)
    system = structure([1] * n_atoms, sites, np.eye(3), masses=mass)
    one = MDSystem(system, MDConditions(None, **values), GeometryLimits()).constants
    return concatenated([one] * n)


def thermal(
    c: Constants, integrator: Integrator, cell: Array = CUBE, sites: Array = SITES, seed: int = 1
) -> MDState:
    """At the sites, with velocities of the temperature and a centre of mass at rest."""
    n, random = len(c), np.random.default_rng(seed)
    width = np.sqrt(c.of_atoms(c.temperature) * c.masses)
    velocities = random.normal(size=(len(c.masses), 3)) * width / c.masses
    velocities -= c.centre(velocities)
    return MDState(
        np.tile(sites @ cell, (n, 1)),
        velocities * c.masses,
        np.tile(cell, (n, 1, 1)),
        {name: np.zeros((n, *shape)) for name, shape in integrator.variables.items()},
    )


def springs(state: MDState, c: Constants) -> tuple[Array, Forces]:
    """Energies (n_trajectories,) in eV, and what acts on the atoms."""
    n = len(c)
    positions = state.positions.reshape(n, 4, 3)
    vectors = positions[:, SECOND] + SHIFTS @ state.cells - positions[:, FIRST]
    lengths = np.sqrt((vectors**2).sum(axis=2))
    stretch = lengths - LENGTH
    pulls = (STIFFNESS * stretch / lengths)[..., None] * vectors
    forces = np.zeros_like(positions)
    for bond, (i, j) in enumerate(zip(FIRST, SECOND, strict=True)):
        forces[:, i] += pulls[:, bond]
        forces[:, j] -= pulls[:, bond]
    volumes = np.abs(np.linalg.det(state.cells))
    stress = np.einsum("nba,nbc->nac", pulls, vectors) / volumes[:, None, None]
    energies = 0.5 * STIFFNESS * (stretch**2).sum(axis=1)
    return energies, Forces(forces.reshape(-1, 3), stress)


def nothing(state: MDState, c: Constants) -> tuple[Array, Forces]:
    """No forces: an ideal gas."""
    return np.zeros(len(c)), Forces(np.zeros_like(state.positions), np.zeros((len(c), 3, 3)))


def run(
    integrator: Integrator,
    state: MDState,
    c: Constants,
    n_steps: int,
    acts: Any = springs,
    seed: int = 2,
    observe: Any = None,
    every: int = 1,
) -> tuple[MDState, list[Any]]:
    """Move all trajectories; ``observe(state, energies, forces)`` after each `every` steps."""
    generators = [np.random.Generator(np.random.PCG64([seed, k])) for k in range(len(c))]
    ones = [c.take([k]) for k in range(len(c))]
    forces, seen = acts(state, c)[1], []
    for start in range(0, n_steps, 100):
        n = min(100, n_steps - start)
        noise = Noise.together(
            [integrator.draw(g, n, one) for g, one in zip(generators, ones, strict=True)]
        )
        for step in range(n):
            state = integrator.first_half(state, c, forces, noise.step(step))
            energies, forces = acts(state, c)
            state = integrator.second_half(state, c, forces, noise.step(step))
            if observe is not None and (start + step + 1) % every == 0:
                seen.append(observe(state, energies, forces))
    return state, seen


def as_tensors(values: Any, torch: Any) -> Any:
    """Constants, state, noise or forces with torch's tensors in place of arrays."""
    if isinstance(values, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(values))
    if isinstance(values, dict):
        return {name: as_tensors(one, torch) for name, one in values.items()}
    if values is None:
        return None
    made = {one.name: as_tensors(getattr(values, one.name), torch) for one in fields(values)}
    return type(values)(**made)
