"""Barostats that scale the cell evenly, beside any thermostat.

CellRescaling: M. Bernetti, G. Bussi, J. Chem. Phys. 153, 114107 (2020), equation 7, by Euler steps
of the square root of the volume.  Berendsen: J. Chem. Phys. 81, 3684 (1984); no ensemble's
fluctuations.  Both scale after the drift, by the pressure at the step's beginning.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fhi_al.md.arrays import namespace
from fhi_al.md.integrator import Forces, Integrator, Noise
from fhi_al.md.pressure import internal_pressure, outer_pressure, resized, volumes
from fhi_al.md.state import Constants, MDState

# Of the volume in one step: more is far from equilibrium, and would overshoot.
_LARGEST_CHANGE = 0.1


def cell_rescaling(thermostat: Integrator) -> Integrator:
    """Stochastic cell rescaling beside a thermostat."""

    def draw(generator: np.random.Generator, n_steps: int, constants: Constants) -> Noise:
        # Step by step: where a block ends must not decide which numbers a step gets.
        steps = []
        for _ in range(n_steps):
            of_thermostat = thermostat.draw(generator, 1, constants)
            own = generator.standard_normal((1, 1, 1))
            steps.append(
                (of_thermostat.atoms, np.concatenate([own, of_thermostat.trajectories], 1))
            )
        atoms, trajectories = zip(*steps, strict=True)
        return Noise(np.concatenate(atoms), np.concatenate(trajectories))

    def first_half(state: MDState, constants: Constants, forces: Forces, noise: Noise) -> MDState:
        xp = namespace(state.momenta)
        of_cell, others = noise.trajectories[0], noise.trajectories[1:]
        c, root = constants, xp.sqrt(volumes(state))
        excess = internal_pressure(state, c, forces) - outer_pressure(state, c)
        excess = excess + 0.5 * c.temperature / root**2
        rate = c.compressibility / c.barostat_time
        change = 0.5 * rate * root * excess * c.timestep
        change = change + xp.sqrt(c.temperature * rate * c.timestep / 2) * of_cell
        factors = _factors((1 + change / root) ** 2)
        state = thermostat.first_half(state, c, forces, replace(noise, trajectories=others))
        return resized(state, constants, factors)

    def second_half(state: MDState, constants: Constants, forces: Forces, noise: Noise) -> MDState:
        others = replace(noise, trajectories=noise.trajectories[1:])
        return thermostat.second_half(state, constants, forces, others)

    return Integrator(first_half, second_half, draw, thermostat.variables, needs_stress=True)


def berendsen_cell(thermostat: Integrator) -> Integrator:
    """Berendsen's barostat beside a thermostat."""

    def first_half(state: MDState, constants: Constants, forces: Forces, noise: Noise) -> MDState:
        c = constants
        excess = internal_pressure(state, c, forces) - outer_pressure(state, c)
        factors = _factors(1 + c.compressibility * excess * c.timestep / c.barostat_time)
        return resized(thermostat.first_half(state, c, forces, noise), constants, factors)

    return replace(thermostat, first_half=first_half, needs_stress=True)


def _factors(of_volume: Any) -> Any:
    """Of lengths, for factors of the volume; both (n_trajectories,)."""
    xp = namespace(of_volume)
    return xp.clip(of_volume, 1 - _LARGEST_CHANGE, 1 + _LARGEST_CHANGE) ** (1 / 3)
