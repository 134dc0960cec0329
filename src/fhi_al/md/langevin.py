"""Langevin dynamics, which keeps the centre of mass at rest.

E. Vanden-Eijnden, G. Ciccotti, Chem. Phys. Lett. 429, 310 (2006), equation 23: second order in the
time step; ASE's ``Langevin`` with ``FixCom``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fhi_al.md.arrays import namespace
from fhi_al.md.integrator import Forces, Integrator, Noise
from fhi_al.md.state import Constants, MDState


def draw(generator: np.random.Generator, n_steps: int, constants: Constants) -> Noise:
    """Two normal numbers for each coordinate and step."""
    n_atoms = len(constants.masses)
    atoms = generator.standard_normal((n_steps, 2, n_atoms, 3))
    return Noise(atoms, np.empty((n_steps, 0, 1)))


def _half_kick(velocities: Any, constants: Constants, forces: Forces, noise: Noise) -> Any:
    """Velocities after half of friction, forces and random velocities, (n_atoms, 3)."""
    xp = namespace(velocities)
    dt, friction = constants.of_atoms(constants.timestep), constants.of_atoms(constants.friction)
    sigma = xp.sqrt(2 * constants.of_atoms(constants.temperature) * friction / constants.masses)
    of_forces = dt / 2 - dt * dt * friction / 8
    of_velocities = dt * friction / 2 - dt * dt * friction * friction / 8
    root = xp.sqrt(dt)
    of_xi = root * sigma / 2 - dt * root * friction * sigma / 8
    of_eta = friction / 2 * _random_step(constants)
    xi, eta = noise.atoms[0], noise.atoms[1]
    return velocities + (
        of_forces * forces.forces / constants.masses
        - of_velocities * velocities
        + (of_xi * xi - of_eta * eta)
    )


def _random_step(constants: Constants) -> Any:
    """Width of the random displacements, (n_atoms, 1)."""
    xp = namespace(constants.masses)
    dt, friction = constants.of_atoms(constants.timestep), constants.of_atoms(constants.friction)
    sigma = xp.sqrt(2 * constants.of_atoms(constants.temperature) * friction / constants.masses)
    return dt * xp.sqrt(dt) * sigma / (2 * 3**0.5)


def first_half(state: MDState, constants: Constants, forces: Forces, noise: Noise) -> MDState:
    """Half of the velocities' change, and the positions'; the centre of mass stays."""
    dt = constants.of_atoms(constants.timestep)
    velocities = _half_kick(state.momenta / constants.masses, constants, forces, noise)
    step = (dt * velocities + _random_step(constants) * noise.atoms[1]) * constants.free
    drift = constants.centre(step)
    return replace(
        state,
        positions=state.positions + (step - drift),
        momenta=(velocities - drift / dt) * constants.masses * constants.free,
    )


def second_half(state: MDState, constants: Constants, forces: Forces, noise: Noise) -> MDState:
    """The other half of the velocities' change."""
    velocities = _half_kick(state.momenta / constants.masses, constants, forces, noise)
    velocities = velocities - constants.centre(velocities)
    return replace(state, momenta=velocities * constants.masses * constants.free)


LANGEVIN = Integrator(first_half, second_half, draw)
