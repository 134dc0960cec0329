"""The points of the initial dataset: sampled by MD, or displaced; labelled, taken in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from fhi_al.active_learning.errors import SamplingFailure
from fhi_al.active_learning.frames import frame_at, frame_of, request_of
from fhi_al.active_learning.options import DISPLACED, SamplingOptions
from fhi_al.active_learning.progress import Progress
from fhi_al.core.assignment import Assignment, Turns, trajectories_of
from fhi_al.core.displaced import CannotDisplace, Displaced
from fhi_al.core.displaced_list import DisplacedList
from fhi_al.core.label import DERIVED_KINDS, Label, Origin
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
        Each source that is MD has a trajectory for each of them.
    shares : mapping
        System -> its share of the points, compared with the others'.
    md_system : callable
        (system, md) -> MDSystem.
    forces : callable
        (source, trajectory, what it moves) -> the forces of a block that begins where it is.
    """

    assignments: tuple[Assignment, ...]
    shares: Mapping[int, float]
    md_system: Callable[[int, int], MDSystem]
    forces: Callable[[str, TrajectoryState, MDSystem], ForceFunction]


class SampledPoints:
    """Where the points of a run's initial dataset come from, and ``state.sampling``.

    The sources take turns, and so do the trajectories of each, see
    :class:`fhi_al.core.assignment.Turns`.

    Parameters
    ----------
    progress : Progress
    md : SamplingMD
    displaced : DisplacedList
        Structures that are of no trajectory.
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
        displaced: DisplacedList,
        queue: LabelQueue,
        clock: Clock,
        options: SamplingOptions,
        n_members: int,
    ) -> None:
        self._progress = progress
        self._md = md
        self._displaced = displaced
        self._queue = queue
        self._clock = clock
        self._options = options
        self._n_members = n_members
        n_md = sum(source != DISPLACED for source in options.sources)
        self._turns_of_sources = _equal_turns(len(options.sources), n_members)
        # Of the others, when the list of displaced structures is used up.
        self._turns_of_md = _equal_turns(n_md, n_members)
        # Of the points that wait for their labels, those that the queue has been handed.
        self._submitted: set[tuple[int | None, int]] = set()

    @property
    def _state(self) -> SamplingState:
        return self._progress.state.sampling

    @property
    def has_begun(self) -> bool:
        """Whether :meth:`begin` has been called, in this launch or another."""
        return bool(self._state.sampled)

    def begin(self) -> None:
        """Start the trajectories."""
        sources, only = self._options.sources, self._state.systems
        table = [each for each in self._md.assignments if not only or each.system in only]
        n_md = sum(source != DISPLACED for source in sources)
        trajectories = trajectories_of(table * n_md)
        self.update(trajectories=trajectories, sampled=(0,) * len(sources))
        self._progress.live = []
        for trajectory in trajectories:
            system = self._system(trajectory)
            generator = random_stream(system.conditions.seed, SAMPLING_STREAM, trajectory.index)
            self._progress.live.append(LiveTrajectory.start(system, generator, trajectory.start))

    @property
    def n_in_round(self) -> int:
        """Points of the round under way, those whose labels are still to come included.

        Not those of other atoms than the systems', which come on top.
        """
        labels = map(self._queue.validator.store.label, self._state.points)
        n_points = sum(not label.origin.is_derived for label in labels)
        return n_points + sum(point.source not in DERIVED_KINDS for point in self._state.pending)

    def table(self) -> list[str]:
        """What is displaced, and which trajectory runs which MD block."""
        lines = []
        if DISPLACED in self._options.sources:
            lines.append(f"displaced structures: {self._list.described()}")
        if not self._state.trajectories:
            return lines
        n = self._n_of_source
        md = [source for source in self._options.sources if source != DISPLACED]
        if len(md) > 1:
            lines += [
                f"trajectories from {place * n} on are moved by {source}"
                for place, source in enumerate(md)
            ]
        return lines + conditions_table(self._state.trajectories, self._system)

    def sample(self) -> None:
        """The next structure of the source whose turn it is, and its label."""
        state, sources = self._state, self._options.sources
        n_sampled = sum(state.sampled)
        source = self._turns_of_sources.trajectory(n_sampled)
        if sources[source] != DISPLACED:
            self._move(source)
            return
        structure = self._next_displaced()
        if structure is not None:
            self._displace(source, structure)
            return
        # It is used up: the others share its turns.
        others = [place for place, name in enumerate(sources) if name != DISPLACED]
        self._move(others[self._turns_of_md.trajectory(n_sampled)])

    @cached_property
    def _list(self) -> DisplacedList:
        """Displaced structures of the systems that are sampled."""
        return self._displaced.only(self._state.systems)

    def _next_displaced(self) -> Displaced | None:
        try:
            return self._list.structure(self._state.n_displaced)
        except CannotDisplace as error:
            raise SamplingFailure(f"initial dataset: {error}") from error

    def _displace(self, source: int, structure: Displaced) -> None:
        """Have a displaced structure labelled; without a label it only drops out."""
        number = self._state.n_displaced
        frame = frame_at(number, structure.positions, structure.cell)
        point = PendingPoint(None, frame, str(structure.kind), structure.system)
        self._ask(source, point)
        self.update(n_displaced=number + 1)

    def _move(self, source: int) -> None:
        """The structure of a trajectory ``skip_step_initial`` MD steps on."""
        state, name = self._state, self._options.sources[source]
        n, before = self._n_of_source, self._options.sources[:source]
        first = n * sum(other != DISPLACED for other in before)
        index = first + self._turns.trajectory(state.sampled[source])
        trajectory, live = state.trajectories[index], self._progress.live[index]
        system, n_steps = self._system(trajectory), self._options.skip_step
        moved = replace(trajectory, step=trajectory.step + n_steps)
        try:
            with self._clock.section(clock.MD):
                forces = self._md.forces(name, trajectory, system)
                (end,) = advance(
                    [live], [system], [n_steps], forces, steps_before=[trajectory.step]
                )
            if isinstance(end, MDFailure):
                raise end
            live.point = end
            problem = self._ask(source, PendingPoint(index, frame_of(end, moved.step), name))
            if problem is not None:
                raise MDFailure(f"the label was discarded: {problem}")
            live.restart_point = live.point
            self._replace(replace(moved, rollbacks_in_row=0))
        except MDFailure as failure:
            self._roll_back(moved, failure)

    @cached_property
    def _n_of_source(self) -> int:
        """Trajectories of each source that is MD."""
        n_md = sum(source != DISPLACED for source in self._options.sources)
        return len(self._state.trajectories) // n_md

    @cached_property
    def _turns(self) -> Turns:
        """Of the trajectories of a source."""
        of_source = self._state.trajectories[: self._n_of_source]
        systems = [trajectory.system for trajectory in of_source]
        shares = [self._md.shares[system] for system in sorted(set(systems))]
        return Turns(systems, shares, self._n_members)

    def _ask(self, source: int, point: PendingPoint) -> str | None:
        """Have a source's point labelled, now or in the background; why its label was discarded."""
        request = self._request(point)
        if self._options.sources[source] in self._options.labelled_at_once:
            record = self._queue.label(request)
            if not isinstance(record, Label):
                return record.reason
            self.update(points=(*self._state.points, record.key))
        else:
            self._queue.submit(request)
            self._submitted.add(_name(point))
            self.update(pending=(*self._state.pending, point))
        sampled = list(self._state.sampled)
        sampled[source] += 1
        self.update(sampled=tuple(sampled))
        return None

    def take_in(self, *, wait: bool) -> None:
        """Take in labels that have been computed in the background."""
        self._submit()
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
        # A run that goes on hands in what was withdrawn before, so that it is withdrawn again.
        self._submit()
        requests = [self._request(point) for point in self._state.pending]
        self._forget(self._queue.withdraw(requests))

    def _submit(self) -> None:
        """Hand to the queue the pending points of the run before this one."""
        for point in self._state.pending:
            if _name(point) not in self._submitted:
                self._submitted.add(_name(point))
                self._queue.submit(self._request(point))

    def _forget(self, requests: Sequence[LabelRequest]) -> None:
        gone = {
            (None if of.is_displaced else of.trajectory, of.step)
            for of in (request.origin for request in requests)
        }
        pending = self._state.pending
        self.update(pending=tuple(point for point in pending if _name(point) not in gone))

    def _system(self, trajectory: TrajectoryState) -> MDSystem:
        return self._md.md_system(trajectory.system, trajectory.md)

    def _conditions(self, trajectory: TrajectoryState) -> MDConditions:
        return self._system(trajectory).conditions

    def _request(self, point: PendingPoint) -> LabelRequest:
        if point.trajectory is None:
            origin = Origin("initial", 0, point.frame.step, source=point.source)
            positions, cell = np.array(point.frame.positions), np.array(point.frame.cell)
            return LabelRequest(point.system, positions, cell, origin)
        trajectory = self._state.trajectories[point.trajectory]
        system = self._system(trajectory)
        return request_of(point.frame, "initial", trajectory, system, point.source)

    def _replace(self, trajectory: TrajectoryState) -> None:
        trajectories = list(self._state.trajectories)
        trajectories[trajectory.index] = trajectory
        self.update(trajectories=tuple(trajectories))

    def update(self, **changes: Any) -> None:
        """Replace fields of the state."""
        self._progress.update_sampling(**changes)


def _equal_turns(n: int, n_members: int) -> Turns:
    return Turns(range(max(n, 1)), [1.0] * max(n, 1), n_members)


def _name(point: PendingPoint) -> tuple[int | None, int]:
    return point.trajectory, point.frame.step


def _hopeless(block: str, in_row: int, failure: MDFailure) -> str:
    return (
        f"initial dataset, MD block {block}: the sampling MD failed {in_row} times in a row "
        f"(max_rollbacks), at last "
        f"because {failure}: expected structures that make sense. Look at geometry.in; start "
        "in a new folder with a lower MD.temperature or MD.timestep, or another initial_sampling; "
        "or raise max_rollbacks and run again."
    )
