"""An MD from which structures are taken that no model has seen; its forces are handed in.

Owns how long trajectories run and which of their points are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fhi_al.md.engine import advance
from fhi_al.md.evaluation import ForceFunction
from fhi_al.md.live_trajectory import LiveTrajectory
from fhi_al.md.point import MDFailure, MDPoint, random_stream
from fhi_al.md.system import MDSystem


@dataclass(frozen=True, eq=False)
class SampledTrajectory:
    """A trajectory, and what is taken of it.

    Parameters
    ----------
    system : int
        Its place among the run's systems.
    moved : MDSystem
    n_structures : int
        That are taken.
    steps_before, steps_between : int
        MD steps before the first one, and from one to the next.
    """

    system: int
    moved: MDSystem
    n_structures: int
    steps_before: int
    steps_between: int

    @property
    def n_steps(self) -> int:
        """MD steps in all."""
        return self.steps_before + self.n_structures * self.steps_between

    def step_of(self, number: int) -> int:
        """MD step of the structure with this number, counted from 0."""
        return self.steps_before + (number + 1) * self.steps_between


def sample(
    trajectories: Sequence[SampledTrajectory],
    forces: ForceFunction,
    seed: int,
    taken: Callable[[int, int, MDPoint], None],
) -> None:
    """Move trajectories together, and hand out what is taken of them.

    The same trajectories with the same seed and forces come to the same points.

    Parameters
    ----------
    trajectories : sequence of SampledTrajectory
    forces : callable
        Called with the structures of all that still move, by their places in the sequence.
    seed : int
    taken : callable
        (place, number from 0, point).

    Raises
    ------
    MDFailure
        If one ends in a structure that makes no sense.
    """
    live = []
    for place, each in enumerate(trajectories):
        live.append(LiveTrajectory.start(each.moved, random_stream(seed, place)))
    done = [0] * len(trajectories)
    _move(trajectories, live, forces, [each.steps_before for each in trajectories], done)
    for number in range(max(each.n_structures for each in trajectories)):
        goes_on = [number < each.n_structures for each in trajectories]
        n_steps = [
            one * each.steps_between for each, one in zip(trajectories, goes_on, strict=True)
        ]
        _move(trajectories, live, forces, n_steps, done)
        for place, one in enumerate(goes_on):
            if one:
                taken(place, number, live[place].point)


def _move(
    trajectories: Sequence[SampledTrajectory],
    live: Sequence[LiveTrajectory],
    forces: ForceFunction,
    n_steps: Sequence[int],
    done: list[int],
) -> None:
    systems = [each.moved for each in trajectories]
    points = advance(live, systems, n_steps, forces, steps_before=done)
    for place, (one, point) in enumerate(zip(live, points, strict=True)):
        if isinstance(point, MDFailure):
            after_fs = done[place] * systems[place].conditions.timestep
            name = f" of {systems[place].name}" if systems[place].name else ""
            raise MDFailure(f"trajectory {place}{name}, after {after_fs:.0f} fs: {point}")
        one.point = point
        done[place] += n_steps[place]
