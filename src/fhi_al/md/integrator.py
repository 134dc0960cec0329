"""What an integrator is: functions of arrays that move all trajectories by a step.

A step is one half before the forces at the new positions are computed, and one half after.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fhi_al.md.state import Constants, MDState


@dataclass(frozen=True, eq=False)
class Forces:
    """What acts on trajectories.

    Parameters
    ----------
    forces : (n_atoms, 3)
        In eV/A; zero on fixed coordinates.
    stress : (n_trajectories, 3, 3) or None
        In eV/A^3, ASE's sign, without the kinetic part; None for schemes that need none.
    """

    forces: Any
    stress: Any | None = None


@dataclass(frozen=True, eq=False)
class Noise:
    """Random numbers of some steps, or of one.

    Parameters
    ----------
    atoms : (n_steps, k, n_atoms, 3)
        Of one step without the first axis.
    trajectories : (n_steps, m, n_trajectories)
        Of one step without the first axis.
    """

    atoms: Any
    trajectories: Any

    def step(self, index: int) -> Noise:
        """The noise of one step."""
        return Noise(self.atoms[index], self.trajectories[index])

    def take(self, atoms: Any, kept: Any) -> Noise:
        """That of some atoms and trajectories, by their places, of all steps."""
        return Noise(self.atoms[:, :, atoms], self.trajectories[:, :, kept])

    @classmethod
    def together(cls, noises: Sequence[Noise]) -> Noise:
        """That of several trajectories, of as many steps each."""
        return cls(
            np.concatenate([one.atoms for one in noises], axis=2),
            np.concatenate([one.trajectories for one in noises], axis=2),
        )

    @classmethod
    def none(cls, n_steps: int, n_atoms: int) -> Noise:
        """Of one trajectory under a scheme that draws nothing."""
        return cls(np.empty((n_steps, 0, n_atoms, 3)), np.empty((n_steps, 0, 1)))


def no_noise(generator: np.random.Generator, n_steps: int, constants: Constants) -> Noise:
    """Of a scheme that draws no random numbers."""
    return Noise.none(n_steps, len(constants.masses))


Half = Callable[[MDState, Constants, Forces, Noise], MDState]


@dataclass(frozen=True, eq=False)
class Integrator:
    """A scheme that moves trajectories; its functions are pure.

    They know nothing of files, models or time, work on NumPy arrays and on torch tensors, and
    decide nothing by the value of an array: the state of all trajectories goes in and comes out.

    Parameters
    ----------
    first_half, second_half : callable
        (state, constants, forces where the state is, noise of the step) -> state.  The positions
        and the cell of a step are those after the first half; forces are computed there.
    draw : callable
        (generator, n_steps, constants of one trajectory) -> its :class:`Noise` of so many steps:
        the same bits as drawn step by step.
    variables : mapping
        Name -> shape of each trajectory's variables besides positions and momenta; they begin as
        zeros and are kept with the trajectory.
    needs_stress : bool
    """

    first_half: Half
    second_half: Half
    draw: Callable[[np.random.Generator, int, Constants], Noise] = no_noise
    variables: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    needs_stress: bool = False


def moved(state: MDState, constants: Constants, velocities: Any) -> MDState:
    """The state after a time step with constant velocities, (n_atoms, 3) in ASE's units."""
    step = constants.of_atoms(constants.timestep) * velocities
    return replace(state, positions=state.positions + step * constants.free)


def kicked(state: MDState, constants: Constants, forces: Forces) -> MDState:
    """The state after half a time step in which only the forces act."""
    half = constants.of_atoms(0.5 * constants.timestep)
    return replace(state, momenta=(state.momenta + half * forces.forces) * constants.free)


def scaled(state: MDState, constants: Constants, factors: Any) -> MDState:
    """The state with all momenta of each trajectory times a factor, (n_trajectories,)."""
    return replace(state, momenta=state.momenta * constants.of_atoms(factors))
