"""Thermostats that multiply all momenta of a trajectory by a factor before each step.

Bussi: G. Bussi, D. Donadio, M. Parrinello, J. Chem. Phys. 126, 014101 (2007), equation A7.
Berendsen: H. J. C. Berendsen et al., J. Chem. Phys. 81, 3684 (1984); not canonical.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fhi_al.md import nve
from fhi_al.md.arrays import namespace
from fhi_al.md.integrator import Forces, Integrator, Noise, kicked, moved, scaled
from fhi_al.md.state import Constants, MDState

# Of the kinetic energy to reach: below it there is nothing that a factor could make larger, and the
# forces have to begin.  One degree of freedom is there in one step of a million, many never.
AT_REST = 1e-12


def _target_over_kinetic(state: MDState, constants: Constants) -> tuple[Any, Any]:
    """Wanted over actual kinetic energy (1 at rest), and where there is any; (n_trajectories,)."""
    xp = namespace(state.momenta)
    target = 0.5 * constants.temperature * constants.degrees_of_freedom
    kinetic = constants.kinetic_energy(state.momenta)
    moves = kinetic > AT_REST * target
    return target / xp.where(moves, kinetic, target), moves


def draw_bussi(generator: np.random.Generator, n_steps: int, constants: Constants) -> Noise:
    """For each step a normal number, and the sum of the squares of all others."""
    n_others = 0.5 * (float(constants.degrees_of_freedom[0]) - 1)
    numbers = np.array(
        [
            (generator.standard_normal(), 2.0 * generator.standard_gamma(n_others))
            for _ in range(n_steps)
        ]
    )
    return Noise(np.empty((n_steps, 0, len(constants.masses), 3)), numbers.reshape(n_steps, 2, 1))


def first_half_bussi(state: MDState, constants: Constants, forces: Forces, noise: Noise) -> MDState:
    """The factor, and velocity Verlet's first half."""
    xp = namespace(state.momenta)
    ratio, moves = _target_over_kinetic(state, constants)
    decay = xp.exp(-constants.timestep / constants.thermostat_time)
    share = (1 - decay) * ratio / constants.degrees_of_freedom
    normal, others = noise.trajectories[0], noise.trajectories[1]
    square = decay + share * (others + normal**2) + 2 * normal * xp.sqrt(decay * share)
    factors = xp.where(moves, xp.sqrt(xp.where(square > 0, square, 0 * square)), 1 + 0 * square)
    return nve.first_half(scaled(state, constants, factors), constants, forces, noise)


BUSSI = Integrator(first_half_bussi, nve.second_half, draw_bussi)


def first_half_berendsen(
    state: MDState, constants: Constants, forces: Forces, noise: Noise
) -> MDState:
    """The factor, at most 10 % from 1, and velocity Verlet's first half; the centre rests."""
    xp = namespace(state.momenta)
    ratio, moves = _target_over_kinetic(state, constants)
    square = 1 + (ratio - 1) * constants.timestep / constants.thermostat_time
    factors = xp.sqrt(xp.clip(square, 0.9**2, 1.1**2))
    factors = xp.where(moves, factors, 1 + 0 * factors)
    state = kicked(scaled(state, constants, factors), constants, forces)
    mean = constants.sum(state.momenta) / constants.n_atoms[:, None]
    drift = constants.of_atoms(mean * constants.keeps_centre[:, None])
    state = replace(state, momenta=state.momenta - drift)
    return moved(state, constants, state.momenta / constants.masses)


BERENDSEN = Integrator(first_half_berendsen, nve.second_half)
