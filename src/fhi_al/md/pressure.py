"""Pressure of moving trajectories, and what scales their cells."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fhi_al.md.arrays import determinants, namespace, traces
from fhi_al.md.integrator import Forces
from fhi_al.md.state import Constants, MDState


def volumes(state: MDState) -> Any:
    """In A^3, (n_trajectories,)."""
    return namespace(state.cells).abs(determinants(state.cells))


def internal_stress(state: MDState, constants: Constants, forces: Forces) -> Any:
    """What pushes the cell outwards: kinetic part minus stress, (n_trajectories, 3, 3) in eV/A^3.

    Raises
    ------
    ValueError
        If there is no stress.
    """
    if forces.stress is None:
        raise ValueError("a barostat needs the stress: expected forces with a stress")
    xp, momenta = namespace(state.momenta), state.momenta
    rows = [
        constants.sum(momenta * (momenta[:, axis : axis + 1] / constants.masses))
        for axis in range(3)
    ]
    return xp.stack(rows, 1) / volumes(state)[:, None, None] - forces.stress


def internal_pressure(state: MDState, constants: Constants, forces: Forces) -> Any:
    """In eV/A^3, (n_trajectories,)."""
    return traces(internal_stress(state, constants, forces)) / 3


def outer_pressure(state: MDState, constants: Constants) -> Any:
    """What the cell works against, (n_trajectories,) in eV/A^3.

    The centre of mass is held: without the share that its motion would have in the pressure, the
    volume would have the distribution of the ensemble divided by the volume.
    """
    return constants.pressure - constants.temperature * _missing(constants) / volumes(state)


def pressure_energy(state: MDState, constants: Constants) -> Any:
    """The work against it, (n_trajectories,) in eV."""
    xp, volume = namespace(state.cells), volumes(state)
    of_centre = constants.temperature * _missing(constants) * xp.log(volume)
    return constants.pressure * volume - of_centre


def _missing(constants: Constants) -> Any:
    """Atoms whose motion does not count, (n_trajectories,): one if the centre of mass rests."""
    return constants.n_atoms - constants.degrees_of_freedom / 3


def resized(state: MDState, constants: Constants, factors: Any) -> MDState:
    """Cells and positions times a factor, (n_trajectories,), and momenta divided by it."""
    of_atoms = constants.of_atoms(factors)
    return replace(
        state,
        positions=state.positions * of_atoms,
        momenta=state.momenta / of_atoms,
        cells=state.cells * factors[:, None, None],
    )
