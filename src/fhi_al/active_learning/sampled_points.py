"""The points of the initial dataset: sampled by MD, labelled, taken in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fhi_al.active_learning.errors import SamplingFailure
from fhi_al.active_learning.frames import frame_of, request_of
from fhi_al.active_learning.options import SamplingOptions
from fhi_al.active_learning.progress import Progress
from fhi_al.core.assignment import Assignment, Turns, trajectories_of
from fhi_al.core.label import Label
from fhi_al.core.run_state import PendingPoint, SamplingState
from fhi_al.core.trajectory import TrajectoryState
from fhi_al.labels.serial_queue import LabelQueue
from fhi_al.labels.validation import LabelRequest
from fhi_al.md.conditions import MDConditions
from fhi_al.md.engine import advance
from fhi_al.md.evaluation import ForceFunction
from fhi_al.md.live_trajectory import LiveTrajectory
from fhi_al.md.point import MDFailure, random_stream
from fhi_al.md.system import MDSystem
from fhi_al.md.table import conditions_table
from fhi_al.report import clock
from fhi_al.report.clock import Clock

log = logging.getLogger(__name__)

# Purpose number of the random stream; active learning's streams use another one.
SAMPLING_STREAM = 0


@dataclass(frozen=True, eq=False)
class SamplingMD:
    """What moves the sampling trajectories, one for each assignment.

    Parameters
    ----------
    assignments : tuple of Assignment
    shares : tuple of float
        Of the points, for each system among them in ascending order.
    md_system : callable
        (system, md) -> MDSystem.
    forces : callable
        (trajectory, its conditions) -> the forces of a block that begins where it is.
    """

    assignments: tuple[Assignment, ...]
    shares: tuple[float, ...]
    md_system: Callable[[int, int], MDSystem]
    forces: Callable[[TrajectoryState, MDConditions], ForceFunction]


class SampledPoints:
    """The sampling trajectories of a run, and ``state.sampling``.

    They take turns, see :class:`fhi_al.core.assignment.Turns`.

    Parameters
    ----------
    progress : Progress
    md : SamplingMD
    queue : LabelQueue
    clock : Clock
    options : SamplingOptions
    n_members : int
        Whom points are shared out to.
    """

    def __init__(
        self,
        progress: Progress,
        md: SamplingMD,
        queue: LabelQueue,
        clock: Clock,
        options: SamplingOptions,
        n_members: int,
    ) -> None:
        self._progress = progress
        self._md = md
        self._queue = queue
        self._clock = clock
        self._options = options
        systems = [assignment.system for assignment in md.assignments]
        self._turns = Turns(systems, md.shares, n_members)
        # Of the points that wait for their labels, those that the queue has been handed.
        self._submitted: set[tuple[int, int]] = set()

    @property
    def _state(self) -> SamplingState:
        return self._progress.state.sampling

    def begin(self) -> None:
        """Start the trajectories."""
        trajectories = trajectories_of(self._md.assignments)
        self.update(trajectories=trajectories)
        self._progress.live = []
        for trajectory in trajectories:
            system = self._system(trajectory)
            generator = random_stream(system.conditions.seed, SAMPLING_STREAM, trajectory.index)
            self._progress.live.append(LiveTrajectory.start(system, generator, trajectory.start))

    def table(self) -> list[str]:
        """Which trajectory runs which MD block."""
        return conditions_table(self._state.trajectories, self._system)

    def sample(self) -> None:
        """The next structure, ``skip_step_initial`` MD steps on, and its label."""
        state = self._state
        index = self._turns.trajectory(state.n_sampled)
        trajectory, live = state.trajectories[index], self._progress.live[index]
        system, n_steps = self._system(trajectory), self._options.skip_step
        moved = replace(trajectory, step=trajectory.step + n_steps)
        try:
            with self._clock.section(clock.MD):
                forces = self._md.forces(trajectory, system.conditions)
                (end,) = advance(
                    [live], [system], [n_steps], forces, steps_before=[trajectory.step]
                )
            if isinstance(end, MDFailure):
                raise end
            live.point = end
            self._ask(PendingPoint(index, frame_of(live.point, moved.step)))
            live.restart_point = live.point
            self._replace(replace(moved, rollbacks_in_row=0))
            self.update(n_sampled=state.n_sampled + 1)
        except MDFailure as failure:
            self._roll_back(moved, failure)

    def _ask(self, point: PendingPoint) -> None:
        """Have a point labelled, now or in the background.

        Raises
        ------
        MDFailure
            If its label was discarded.
        """
        request = self._request(point)
        if self._options.label_in_background:
            self._queue.submit(request)
            self._submitted.add(_name(point))
            self.update(pending=(*self._state.pending, point))
        else:
            record = self._queue.label(request)
            if not isinstance(record, Label):
                raise MDFailure(f"the label was discarded: {record.reason}")
            self.update(points=(*self._state.points, record.key))

    def take_in(self, *, wait: bool) -> None:
        """Take in labels that have been computed in the background."""
        for point in self._state.pending:
            if _name(point) not in self._submitted:  # by the run before this one
                self._submitted.add(_name(point))
                self._queue.submit(self._request(point))
        if not self._state.pending:
            return
        for outcome in self._queue.poll(wait=wait):
            sampling = self._state
            self._forget([outcome.request])
            # The trajectory has moved on from a point whose label was discarded: it only drops out.
            if isinstance(outcome.record, Label):
                self.update(points=(*sampling.points, outcome.request.key))

    def _roll_back(self, moved: TrajectoryState, failure: MDFailure) -> None:
        in_row = moved.rollbacks_in_row + 1
        back = replace(moved, rollbacks=moved.rollbacks + 1, rollbacks_in_row=in_row)
        self._replace(back)
        log.warning(
            "initial dataset, MD block %s, MD step %d: %s; back to the last good point with new "
            "velocities (rollback %d)",
            self._conditions(back).name,
            back.step,
            failure,
            back.rollbacks,
        )
        if in_row >= self._options.max_rollbacks_in_row:
            block = self._conditions(back).name
            raise SamplingFailure(_hopeless(block, in_row, failure)) from failure
        self._progress.live[back.index].roll_back(self._system(back), back.step)

    def withdraw(self) -> None:
        """Take back the points that no engine has begun."""
        requests = [self._request(point) for point in self._state.pending]
        self._forget(self._queue.withdraw(requests))

    def _forget(self, requests: Sequence[LabelRequest]) -> None:
        gone = {(request.origin.trajectory, request.origin.step) for request in requests}
        pending = self._state.pending
        self.update(pending=tuple(point for point in pending if _name(point) not in gone))

    def _system(self, trajectory: TrajectoryState) -> MDSystem:
        return self._md.md_system(trajectory.system, trajectory.md)

    def _conditions(self, trajectory: TrajectoryState) -> MDConditions:
        return self._system(trajectory).conditions

    def _request(self, point: PendingPoint) -> LabelRequest:
        trajectory = self._state.trajectories[point.trajectory]
        return request_of(point.frame, "initial", trajectory, self._conditions(trajectory))

    def _replace(self, trajectory: TrajectoryState) -> None:
        trajectories = list(self._state.trajectories)
        trajectories[trajectory.index] = trajectory
        self.update(trajectories=tuple(trajectories))

    def update(self, **changes: Any) -> None:
        """Replace fields of the state."""
        self._progress.update_sampling(**changes)


def _name(point: PendingPoint) -> tuple[int, int]:
    return point.trajectory, point.frame.step


def _hopeless(block: str, in_row: int, failure: MDFailure) -> str:
    return (
        f"initial dataset, MD block {block}: the sampling MD failed {in_row} times in a row "
        f"(max_rollbacks), at last "
        f"because {failure}: expected structures that make sense. Look at geometry.in; start "
        "in a new folder with a lower MD.temperature or MD.timestep, or another initial_sampling; "
        "or raise max_rollbacks and run again."
    )
