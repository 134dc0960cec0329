"""Constant pressure by Martyna, Tobias and Klein, with Nose-Hoover chains on atoms and cell.

G. J. Martyna, D. J. Tobias, M. L. Klein, J. Chem. Phys. 101, 4177 (1994); the order of the parts of
a step is that of ASE's ``IsotropicMTKNPT`` and ``MTKNPT``.  N_f are the degrees of freedom that
share the kinetic energy; ASE counts 3 N.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fhi_al.md.arrays import expm1_ratio, namespace, times_matrix, traces
from fhi_al.md.chains import LENGTH, chain_energy, chain_step
from fhi_al.md.integrator import Forces, Integrator, Noise
from fhi_al.md.nose_hoover import VARIABLES, thermostat_energy, thermostatted
from fhi_al.md.pressure import (
    internal_pressure,
    internal_stress,
    outer_pressure,
    pressure_energy,
    volumes,
)
from fhi_al.md.state import Constants, MDState

_CHAIN = {"xi": (LENGTH,), "p_xi": (LENGTH,)}


def _mass(constants: Constants) -> Any:
    """Of the barostat that changes the volume only, (n_trajectories,)."""
    n = constants.degrees_of_freedom + 3
    return n * constants.temperature * constants.barostat_time**2


def _chain_energy(state: MDState, constants: Constants, n: float, first_mass: float) -> Any:
    chain = (state.variables["xi"], state.variables["p_xi"])
    return chain_energy(chain, n, constants.temperature, constants.barostat_time, first_mass)


# ------------------------------------------------------------------------------------- isotropic

# Degrees of freedom of the volume, and the mass of its chain's first variable, as in ASE.
_ONE, _FIRST_MASS = 1.0, 9.0


def _isotropic_chain(state: MDState, constants: Constants) -> MDState:
    v = state.variables
    (xi, p_xi), factors = _barostat_chain(
        state, v["p_eps"] ** 2 / _mass(constants), _ONE, _FIRST_MASS, constants
    )
    changed = {"xi": xi, "p_xi": p_xi, "p_eps": v["p_eps"] * factors}
    return replace(state, variables={**v, **changed})


def _barostat_chain(
    state: MDState, square: Any, n: float, first_mass: float, constants: Constants
) -> tuple[tuple[Any, Any], Any]:
    return chain_step(
        (state.variables["xi"], state.variables["p_xi"]),
        square,
        n + 0 * square,
        constants.temperature,
        constants.barostat_time,
        constants.timestep / 2,
        first_mass + 0 * square,
    )


def _isotropic_cell_kick(state: MDState, constants: Constants, forces: Forces) -> MDState:
    c = constants
    excess = internal_pressure(state, c, forces) - outer_pressure(state, c)
    pull = 3 * volumes(state) * excess
    pull = pull + 2 * c.kinetic_energy(state.momenta) * 3 / c.degrees_of_freedom
    p_eps = state.variables["p_eps"] + c.timestep / 2 * pull
    return replace(state, variables={**state.variables, "p_eps": p_eps})


def _isotropic_kick(state: MDState, constants: Constants, forces: Forces) -> MDState:
    xp, c, half = namespace(state.momenta), constants, constants.timestep / 2
    x = (1 + 3 / c.degrees_of_freedom) * state.variables["p_eps"] * half / _mass(c)
    momenta = state.momenta * c.of_atoms(xp.exp(-x))
    return replace(state, momenta=momenta + c.of_atoms(half * expm1_ratio(-x)) * forces.forces)


def isotropic_first_half(
    state: MDState, constants: Constants, forces: Forces, noise: Noise
) -> MDState:
    """Chains, cell and momenta by half a step; positions and cell by a whole one."""
    c = constants
    state = thermostatted(_isotropic_chain(state, c), c)
    state = _isotropic_kick(_isotropic_cell_kick(state, c, forces), c, forces)
    xp, x = namespace(state.momenta), c.timestep * state.variables["p_eps"] / _mass(c)
    step = c.of_atoms(c.timestep * expm1_ratio(x)) * state.momenta / c.masses
    growth = xp.exp(x)
    return replace(
        state,
        positions=state.positions * c.of_atoms(growth) + step,
        cells=state.cells * growth[:, None, None],
    )


def isotropic_second_half(
    state: MDState, constants: Constants, forces: Forces, noise: Noise
) -> MDState:
    """The other half of the first half's parts, in the opposite order."""
    c = constants
    state = _isotropic_cell_kick(_isotropic_kick(state, c, forces), c, forces)
    return _isotropic_chain(thermostatted(state, c), c)


def isotropic_energy(state: MDState, constants: Constants) -> Any:
    """What is conserved besides potential and kinetic energy, (n_trajectories,) in eV."""
    c = constants
    return (
        thermostat_energy(state, c)
        + _chain_energy(state, c, _ONE, _FIRST_MASS)
        + state.variables["p_eps"] ** 2 / (2 * _mass(c))
        + pressure_energy(state, c)
    )


MTK = Integrator(
    isotropic_first_half,
    isotropic_second_half,
    variables={**VARIABLES, **_CHAIN, "p_eps": ()},
    needs_stress=True,
)


# -------------------------------------------------------------------------------------- flexible


class _Flexible:
    """The scheme for a cell of which all lengths and angles move.

    Parameters
    ----------
    n : float
        Degrees of freedom of the cell's momentum, a symmetric matrix: 6.  ASE counts 9.
    """

    def __init__(self, n: float) -> None:
        self._n = n

    def first_half(
        self, state: MDState, constants: Constants, forces: Forces, noise: Noise
    ) -> MDState:
        """Chains, cell and momenta by half a step; positions and cell by a whole one."""
        c = constants
        state = thermostatted(self._chain(state, c), c)
        state = self._kick(self._cell_kick(state, c, forces), c, forces)
        values, vectors, transposed = _modes(state.variables["p_g"])
        x = values * (c.timestep / self.mass(c))[:, None]
        growth, step = _exponentials(x, c.timestep)
        positions = times_matrix(state.positions, c.of_atoms(vectors)) * c.of_atoms(growth)
        velocities = times_matrix(state.momenta / c.masses, c.of_atoms(vectors))
        positions = positions + c.of_atoms(step) * velocities
        return replace(
            state,
            positions=times_matrix(positions, c.of_atoms(transposed)),
            cells=times_matrix(times_matrix(state.cells, vectors) * growth[:, None], transposed),
        )

    def second_half(
        self, state: MDState, constants: Constants, forces: Forces, noise: Noise
    ) -> MDState:
        """The other half of the first half's parts, in the opposite order."""
        state = self._kick(state, constants, forces)
        state = self._cell_kick(state, constants, forces)
        return self._chain(thermostatted(state, constants), constants)

    def mass(self, constants: Constants) -> Any:
        """Of the cell's momentum, (n_trajectories,)."""
        return _mass(constants) / 3

    def energy(self, state: MDState, constants: Constants) -> Any:
        """What is conserved besides potential and kinetic energy, (n_trajectories,) in eV."""
        square = state.variables["p_g"] ** 2
        return (
            thermostat_energy(state, constants)
            + _chain_energy(state, constants, self._n, self._n)
            + _total(square) / (2 * self.mass(constants))
            + pressure_energy(state, constants)
        )

    def _chain(self, state: MDState, constants: Constants) -> MDState:
        v = state.variables
        (xi, p_xi), factors = _barostat_chain(
            state, _total(v["p_g"] ** 2) / self.mass(constants), self._n, self._n, constants
        )
        changed = {"xi": xi, "p_xi": p_xi, "p_g": v["p_g"] * factors[:, None, None]}
        return replace(state, variables={**v, **changed})

    def _cell_kick(self, state: MDState, constants: Constants, forces: Forces) -> MDState:
        c, unit = constants, _unit(state.cells)
        stress = internal_stress(state, c, forces)
        # Of rounding, or of an engine: what is not symmetric would turn the cell.
        stress = (stress + stress.swapaxes(1, 2)) / 2 - outer_pressure(state, c)[
            :, None, None
        ] * unit
        kinetic = 2 * c.kinetic_energy(state.momenta) / c.degrees_of_freedom
        pull = volumes(state)[:, None, None] * stress + kinetic[:, None, None] * unit
        p_g = state.variables["p_g"] + (c.timestep / 2)[:, None, None] * pull
        return replace(state, variables={**state.variables, "p_g": p_g})

    def _kick(self, state: MDState, constants: Constants, forces: Forces) -> MDState:
        c, half = constants, constants.timestep / 2
        p_g = state.variables["p_g"]
        values, vectors, transposed = _modes(p_g)
        rates = values + (traces(p_g) / c.degrees_of_freedom)[:, None]
        shrink, step = _exponentials(-rates * (half / self.mass(c))[:, None], half)
        of_atoms = c.of_atoms(vectors)
        momenta = times_matrix(state.momenta, of_atoms) * c.of_atoms(shrink)
        momenta = momenta + c.of_atoms(step) * times_matrix(forces.forces, of_atoms)
        return replace(state, momenta=times_matrix(momenta, c.of_atoms(transposed)))


def _modes(matrices: Any) -> tuple[Any, Any, Any]:
    """Eigenvalues, eigenvectors as columns, and these as rows."""
    values, vectors = namespace(matrices).linalg.eigh(matrices)
    return values, vectors, vectors.swapaxes(1, 2)


def _exponentials(x: Any, time: Any) -> tuple[Any, Any]:
    return namespace(x).exp(x), time[:, None] * expm1_ratio(x)


def _total(matrices: Any) -> Any:
    """Sum of all elements of each matrix, (n_trajectories,)."""
    rows = matrices[:, 0] + matrices[:, 1] + matrices[:, 2]
    return rows[:, 0] + rows[:, 1] + rows[:, 2]


def _unit(like: Any) -> Any:
    return np.eye(3) if isinstance(like, np.ndarray) else namespace(like).eye(3).to(like)


def flexible(n: float = 6.0) -> Integrator:
    """The scheme of a flexible cell, with so many degrees of freedom for its chain."""
    scheme = _Flexible(n)
    return Integrator(
        scheme.first_half,
        scheme.second_half,
        variables={**VARIABLES, **_CHAIN, "p_g": (3, 3)},
        needs_stress=True,
    )


def flexible_energy(state: MDState, constants: Constants, n: float = 6.0) -> Any:
    """What is conserved besides potential and kinetic energy, (n_trajectories,) in eV."""
    return _Flexible(n).energy(state, constants)


MTK_FLEXIBLE = flexible()
