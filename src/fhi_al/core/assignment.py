"""Which trajectory runs which system under which MD block: the same at every start.  Pure: numpy.

Whatever moves (the sampling of the initial dataset, active learning, the test of the finished
models) takes its trajectories from one list of assignments, in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fhi_al.core.trajectory import TrajectoryState


@dataclass(frozen=True)
class Assignment:
    """A system (its index), and the MD block (its index) that it moves under."""

    system: int
    md: int


def every_assignment(n_systems: int, n_blocks: int) -> tuple[Assignment, ...]:
    """Every system under every block; one trajectory after the other has another system."""
    return tuple(Assignment(system, md) for md in range(n_blocks) for system in range(n_systems))


def round_robin(assignments: Sequence[Assignment], n: int) -> tuple[TrajectoryState, ...]:
    """`n` trajectories that have not moved yet: the first has the first assignment, and so on."""
    turns = (assignments[index % len(assignments)] for index in range(n))
    return tuple(TrajectoryState(index, turn.system, turn.md) for index, turn in enumerate(turns))


def next_to_sample(n_sampled: int, n_members: int, n_trajectories: int) -> int:
    """The trajectory that the next point of the initial dataset is of.

    Parameters
    ----------
    n_sampled : int
        Points before it.
    n_members, n_trajectories : int

    Notes
    -----
    Points are shared out to the members in turn, and every tenth, say, is validated on.  Each
    trajectory gives one point to every member before the next is due, and the order is drawn anew
    when all have had their turn: so every member has points of all, and validates on any of them.
    """
    place = n_sampled // n_members
    turn, within = divmod(place, n_trajectories)
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([turn])))
    return int(generator.permutation(n_trajectories)[within])
