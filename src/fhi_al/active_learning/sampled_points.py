"""The points of the initial dataset: sampled by MD, labelled, taken in."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fhi_al.active_learning.errors import SamplingFailure
from fhi_al.active_learning.frames import frame_of, request_of
from fhi_al.active_learning.run import Run
from fhi_al.core.label import Label
from fhi_al.core.run_state import Frame
from fhi_al.labels.validation import LabelRequest
from fhi_al.md.driver import Driver, MDPoint, random_stream
from fhi_al.md.validating import MDFailure
from fhi_al.md.walker import Walker
from fhi_al.report import clock

log = logging.getLogger(__name__)

# Purpose number of the random stream; active learning's streams use another one.
SAMPLING_STREAM = 0


class SampledPoints:
    """The sampling trajectory of a run, and ``state.sampling``.

    Parameters
    ----------
    run : Run
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._al = run.settings.al
        # Of the points that wait for their labels, those that the queue has been handed.
        self._submitted: set[int] = set()

    def begin(self) -> None:
        """Start the trajectory."""
        generator = random_stream(self._run.conditions[0].seed, SAMPLING_STREAM)
        self._run.walkers = [Walker.start(self._run.sampling_driver(0), generator)]

    def sample(self) -> None:
        """The next structure, ``skip_step_initial`` MD steps on, and its label."""
        run = self._run
        walker = run.walkers[0]
        driver = run.sampling_driver(run.state.sampling.md_steps)
        n_steps = self._al.skip_step_initial
        md_step = run.state.sampling.md_steps + n_steps
        try:
            with run.clock.section(clock.MD):
                walker.point = driver.advance(walker.point, n_steps, walker.generator)
            self.update(md_steps=md_step)
            self._ask(walker.point, md_step)
        except MDFailure as failure:
            self.update(md_steps=md_step)
            self._roll_back(walker, driver, failure)

    def _ask(self, point: MDPoint, md_step: int) -> None:
        """Have a point labelled, now or in the background.

        Raises
        ------
        MDFailure
            If its label was discarded.
        """
        run, walker = self._run, self._run.walkers[0]
        frame = frame_of(point, md_step)
        request = _request(frame)
        # In ab initio MD the forces on the point, and with them its label, are there already.
        if run.labels.overlaps and self._al.initial_sampling != "aimd":
            run.labels.submit(request)
            self._submitted.add(md_step)
            self.update(pending=(*run.state.sampling.pending, frame))
        else:
            record = run.labels.label(request)
            if not isinstance(record, Label):
                raise MDFailure(f"the label was discarded: {record.reason}")
            self.update(points=(*run.state.sampling.points, record.key))
        walker.restart_point = walker.point
        self.update(rollbacks_in_row=0)

    def take_in(self, *, wait: bool) -> None:
        """Take in labels that have been computed in the background."""
        run = self._run
        for frame in run.state.sampling.pending:
            if frame.step not in self._submitted:  # by the run before this one
                self._submitted.add(frame.step)
                run.labels.submit(_request(frame))
        if not run.state.sampling.pending:
            return
        for outcome in run.labels.poll(wait=wait):
            sampling = run.state.sampling
            self._forget([outcome.request])
            # The trajectory has moved on from a point whose label was discarded: it only drops out.
            if isinstance(outcome.record, Label):
                self.update(points=(*sampling.points, outcome.request.key))

    def _roll_back(self, walker: Walker, driver: Driver, failure: MDFailure) -> None:
        sampling = self._run.state.sampling
        in_row = sampling.rollbacks_in_row + 1
        self.update(rollbacks=sampling.rollbacks + 1, rollbacks_in_row=in_row)
        log.warning(
            "initial dataset, MD step %d: %s; back to the last good point with new velocities "
            "(setback %d)",
            sampling.md_steps,
            failure,
            sampling.rollbacks + 1,
        )
        if in_row >= self._al.max_setbacks:
            raise SamplingFailure(_hopeless(in_row, failure)) from failure
        walker.roll_back(driver)

    def withdraw(self) -> None:
        """Take back the points that no engine has begun."""
        pending = self._run.state.sampling.pending
        self._forget(self._run.labels.withdraw([_request(frame) for frame in pending]))

    def _forget(self, requests: Sequence[LabelRequest]) -> None:
        steps = {request.origin.step for request in requests}
        pending = self._run.state.sampling.pending
        self.update(pending=tuple(frame for frame in pending if frame.step not in steps))

    def update(self, **changes: Any) -> None:
        """Replace fields of the state."""
        run = self._run
        run.state = replace(run.state, sampling=replace(run.state.sampling, **changes))


def _request(frame: Frame) -> LabelRequest:
    return request_of(frame, 0, "initial", 0)


def _hopeless(in_row: int, failure: MDFailure) -> str:
    return (
        f"initial dataset: the sampling MD failed {in_row} times in a row (max_setbacks), the last "
        f"time because {failure}: expected structures that make sense. Look at geometry.in; start "
        "in a new folder with a lower MD.temperature or MD.timestep, or another initial_sampling; "
        "or raise max_setbacks and run again."
    )
