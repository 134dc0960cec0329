"""The points of the initial dataset: sampled by MD, labelled, taken in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fhi_al.active_learning.errors import SamplingFailure
from fhi_al.active_learning.frames import frame_of, request_of
from fhi_al.active_learning.options import SamplingOptions
from fhi_al.active_learning.progress import Progress
from fhi_al.core.label import Label
from fhi_al.core.run_state import Frame, SamplingState
from fhi_al.labels.serial_queue import LabelQueue
from fhi_al.labels.validation import LabelRequest
from fhi_al.md.engine import advance
from fhi_al.md.evaluation import ForceFunction
from fhi_al.md.live_trajectory import LiveTrajectory
from fhi_al.md.point import MDFailure, MDPoint, random_stream
from fhi_al.md.system import MDSystem
from fhi_al.report import clock
from fhi_al.report.clock import Clock

log = logging.getLogger(__name__)

# Purpose number of the random stream; active learning's streams use another one.
SAMPLING_STREAM = 0


@dataclass(frozen=True, eq=False)
class SamplingMD:
    """What moves the sampling trajectory.

    Parameters
    ----------
    system : MDSystem
    forces : callable
        (MD step) -> the forces of a block that begins there.
    """

    system: MDSystem
    forces: Callable[[int], ForceFunction]


class SampledPoints:
    """The sampling trajectory of a run, and ``state.sampling``.

    Parameters
    ----------
    progress : Progress
    md : SamplingMD
    queue : LabelQueue
    clock : Clock
    options : SamplingOptions
    """

    def __init__(
        self,
        progress: Progress,
        md: SamplingMD,
        queue: LabelQueue,
        clock: Clock,
        options: SamplingOptions,
    ) -> None:
        self._progress = progress
        self._md = md
        self._queue = queue
        self._clock = clock
        self._options = options
        # Of the points that wait for their labels, those that the queue has been handed.
        self._submitted: set[int] = set()

    @property
    def _state(self) -> SamplingState:
        return self._progress.state.sampling

    def begin(self) -> None:
        """Start the trajectory."""
        system = self._md.system
        generator = random_stream(system.conditions.seed, SAMPLING_STREAM)
        self._progress.live = [LiveTrajectory.start(system, generator)]

    def sample(self) -> None:
        """The next structure, ``skip_step_initial`` MD steps on, and its label."""
        live = self._progress.live[0]
        n_steps = self._options.skip_step
        md_step = self._state.md_steps + n_steps
        try:
            with self._clock.section(clock.MD):
                forces = self._md.forces(self._state.md_steps)
                (end,) = advance([live], [self._md.system], [n_steps], forces)
            if isinstance(end, MDFailure):
                raise end
            live.point = end
            self.update(md_steps=md_step)
            self._ask(live.point, md_step)
        except MDFailure as failure:
            self.update(md_steps=md_step)
            self._roll_back(live, failure)

    def _ask(self, point: MDPoint, md_step: int) -> None:
        """Have a point labelled, now or in the background.

        Raises
        ------
        MDFailure
            If its label was discarded.
        """
        live = self._progress.live[0]
        frame = frame_of(point, md_step)
        request = _request(frame)
        if self._options.label_in_background:
            self._queue.submit(request)
            self._submitted.add(md_step)
            self.update(pending=(*self._state.pending, frame))
        else:
            record = self._queue.label(request)
            if not isinstance(record, Label):
                raise MDFailure(f"the label was discarded: {record.reason}")
            self.update(points=(*self._state.points, record.key))
        live.restart_point = live.point
        self.update(rollbacks_in_row=0)

    def take_in(self, *, wait: bool) -> None:
        """Take in labels that have been computed in the background."""
        for frame in self._state.pending:
            if frame.step not in self._submitted:  # by the run before this one
                self._submitted.add(frame.step)
                self._queue.submit(_request(frame))
        if not self._state.pending:
            return
        for outcome in self._queue.poll(wait=wait):
            sampling = self._state
            self._forget([outcome.request])
            # The trajectory has moved on from a point whose label was discarded: it only drops out.
            if isinstance(outcome.record, Label):
                self.update(points=(*sampling.points, outcome.request.key))

    def _roll_back(self, live: LiveTrajectory, failure: MDFailure) -> None:
        sampling = self._state
        in_row = sampling.rollbacks_in_row + 1
        self.update(rollbacks=sampling.rollbacks + 1, rollbacks_in_row=in_row)
        log.warning(
            "initial dataset, MD step %d: %s; back to the last good point with new velocities "
            "(rollback %d)",
            sampling.md_steps,
            failure,
            sampling.rollbacks + 1,
        )
        if in_row >= self._options.max_rollbacks_in_row:
            raise SamplingFailure(_hopeless(in_row, failure)) from failure
        live.roll_back(self._md.system)

    def withdraw(self) -> None:
        """Take back the points that no engine has begun."""
        pending = self._state.pending
        self._forget(self._queue.withdraw([_request(frame) for frame in pending]))

    def _forget(self, requests: Sequence[LabelRequest]) -> None:
        steps = {request.origin.step for request in requests}
        pending = self._state.pending
        self.update(pending=tuple(frame for frame in pending if frame.step not in steps))

    def update(self, **changes: Any) -> None:
        """Replace fields of the state."""
        self._progress.update_sampling(**changes)


def _request(frame: Frame) -> LabelRequest:
    return request_of(frame, 0, "initial", 0)


def _hopeless(in_row: int, failure: MDFailure) -> str:
    return (
        f"initial dataset: the sampling MD failed {in_row} times in a row (max_rollbacks), at last "
        f"because {failure}: expected structures that make sense. Look at geometry.in; start "
        "in a new folder with a lower MD.temperature or MD.timestep, or another initial_sampling; "
        "or raise max_rollbacks and run again."
    )
