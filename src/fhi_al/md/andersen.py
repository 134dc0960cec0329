"""Andersen's thermostat: each velocity is redrawn with a probability per step.

H. C. Andersen, J. Chem. Phys. 72, 2384 (1980); as in ASE, the centre of mass is kept.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fhi_al.md.arrays import namespace
from fhi_al.md.integrator import Forces, Integrator, Noise, kicked
from fhi_al.md.state import Constants, MDState


def draw(generator: np.random.Generator, n_steps: int, constants: Constants) -> Noise:
    """For each step a normal velocity of the centre of mass; for each coordinate one, and chance.

    Normal numbers are made of two uniform ones (Box and Muller), as ASE does.
    """
    n_atoms, n_centre = len(constants.masses), 6 * int(constants.keeps_centre[0])
    uniform = generator.random((n_steps, n_centre + 9 * n_atoms))
    x, y, chance = (uniform[:, n_centre:].reshape(n_steps, 3, n_atoms, 3)[:, k] for k in range(3))
    centre = np.zeros((n_steps, 3, 1))
    if n_centre:
        centre[:, :, 0] = _normal(uniform[:, :3], uniform[:, 3:6])
    return Noise(np.stack([_normal(x, y), chance], axis=1), centre)


def _normal(x: Any, y: Any) -> Any:
    return np.cos(2 * np.pi * x) * np.sqrt(-2 * np.log(1 - y))


def first_half(state: MDState, constants: Constants, forces: Forces, noise: Noise) -> MDState:
    """Half a kick, collisions, and the drift."""
    xp = namespace(state.positions)
    dt, temperature = constants.of_atoms(constants.timestep), constants.temperature
    # The velocity that the centre of mass would have, without which collisions cool.
    width = xp.sqrt(temperature / constants.total_mass) * constants.keeps_centre
    centre = constants.of_atoms((width * noise.trajectories).T)
    velocities = state.momenta / constants.masses + centre
    velocities = velocities + 0.5 * forces.forces / constants.masses * dt
    drawn = xp.sqrt(constants.of_atoms(temperature) / constants.masses) * noise.atoms[0]
    collides = noise.atoms[1] <= constants.of_atoms(constants.collision_probability)
    velocities = xp.where(collides, drawn, velocities)
    velocities = (velocities - constants.centre(velocities)) * constants.free
    return replace(
        state,
        positions=state.positions + velocities * dt,
        momenta=velocities * constants.masses,
    )


def second_half(state: MDState, constants: Constants, forces: Forces, noise: Noise) -> MDState:
    """The other half of the kick."""
    state = kicked(state, constants, forces)
    velocities = state.momenta / constants.masses
    velocities = velocities - constants.centre(velocities)
    return replace(state, momenta=velocities * constants.masses * constants.free)


ANDERSEN = Integrator(first_half, second_half, draw)
