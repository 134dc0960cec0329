"""A chain of Nose-Hoover thermostats; see :mod:`fhi_al.md.chains`."""

from __future__ import annotations

from dataclasses import replace

from fhi_al.md import nve
from fhi_al.md.chains import LENGTH, chain_energy, chain_step
from fhi_al.md.integrator import Forces, Integrator, Noise, scaled
from fhi_al.md.state import Constants, MDState

VARIABLES = {"eta": (LENGTH,), "p_eta": (LENGTH,)}


def thermostatted(state: MDState, constants: Constants) -> MDState:
    """The state after half a time step in which only the thermostat acts."""
    (eta, p_eta), factors = chain_step(
        (state.variables["eta"], state.variables["p_eta"]),
        2 * constants.kinetic_energy(state.momenta),
        constants.degrees_of_freedom,
        constants.temperature,
        constants.thermostat_time,
        constants.timestep / 2,
    )
    variables = {**state.variables, "eta": eta, "p_eta": p_eta}
    return replace(scaled(state, constants, factors), variables=variables)


def first_half(state: MDState, constants: Constants, forces: Forces, noise: Noise) -> MDState:
    """Half a step of the thermostat, and velocity Verlet's first half."""
    return nve.first_half(thermostatted(state, constants), constants, forces, noise)


def second_half(state: MDState, constants: Constants, forces: Forces, noise: Noise) -> MDState:
    """Velocity Verlet's second half, and half a step of the thermostat."""
    return thermostatted(nve.second_half(state, constants, forces, noise), constants)


def thermostat_energy(state: MDState, constants: Constants) -> object:
    """What the thermostats hold of the conserved energy, (n_trajectories,) in eV."""
    return chain_energy(
        (state.variables["eta"], state.variables["p_eta"]),
        constants.degrees_of_freedom,
        constants.temperature,
        constants.thermostat_time,
    )


NOSE_HOOVER = Integrator(first_half, second_half, variables=VARIABLES)
