"""Trajectories of active learning: events go to ``core.trajectory``, its instructions are done."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from fhi_al.active_learning.progress import Progress
from fhi_al.core.run_state import ActiveLearningState, Frame
from fhi_al.core.trajectory import (
    Event,
    Instruction,
    LabelAccepted,
    LabelDiscarded,
    LabelTooHigh,
    Limits,
    Status,
    TrajectoryState,
    after,
    reinstated,
)
from fhi_al.md.live_trajectory import LiveTrajectory
from fhi_al.md.system import MDSystem

log = logging.getLogger(__name__)


class Trajectories:
    """The trajectories of a run whose active learning has begun, and the state of that.

    Parameters
    ----------
    progress : Progress
    md_system : callable
        (system, md) -> MDSystem.
    limits : Limits
    """

    def __init__(
        self, progress: Progress, md_system: Callable[[int, int], MDSystem], limits: Limits
    ) -> None:
        self.progress = progress
        self.limits = limits
        self._md_system = md_system

    @property
    def state(self) -> ActiveLearningState:
        """Where active learning stands."""
        return self.progress.active

    @property
    def live(self) -> list[LiveTrajectory]:
        """Where the trajectories are in phase space."""
        return self.progress.live

    def update(self, **changes: object) -> None:
        """Replace fields of the state."""
        self.progress.update_active(**changes)

    def with_status(self, status: Status) -> list[TrajectoryState]:
        """The trajectories that are at something, in index order."""
        return [t for t in self.state.trajectories if t.status is status]

    def is_at(self, index: int, frame: Frame) -> bool:
        """Whether a trajectory is still at a structure, and may go on from there.

        To the last bit: one that was rolled back is elsewhere at the same MD step.
        """
        trajectory, point = self.state.trajectories[index], self.live[index].point
        return (
            trajectory.status in (Status.RUNNING, Status.WAITING, Status.DONE)
            and trajectory.step == frame.step
            and np.array_equal(point.positions, frame.positions)
            and np.array_equal(point.cell, frame.cell)
        )

    def has_left(self, index: int, frame: Frame) -> bool:
        """Whether a trajectory was rolled back since it came to a structure."""
        return frame.step <= self.state.trajectories[index].last_rollback

    def reinstate(self) -> None:
        """Take the trajectories up under limits that may have changed since the snapshot."""
        trajectories = tuple(reinstated(t, self.limits) for t in self.state.trajectories)
        for before, now in zip(self.state.trajectories, trajectories, strict=True):
            if before != now:
                log.info("trajectory %d: %s", now.index, _why_changed(before))
        self.update(trajectories=trajectories)

    def apply(self, index: int, event: Event) -> None:
        """Feed an event to a trajectory and carry out what moves it in phase space."""
        trajectories = list(self.state.trajectories)
        trajectories[index], instructions = after(trajectories[index], event, self.limits)
        self.update(trajectories=tuple(trajectories))
        live = self.live[index]
        now = trajectories[index]
        if Instruction.SET_RESTART_POINT in instructions:
            live.restart_point = live.point
        if Instruction.ROLL_BACK in instructions:
            live.roll_back(self._md_system(now.system, now.md), now.step)
            log.warning(
                "trajectory %d, MD step %d: %s; back to the last good point with new velocities "
                "(rollback %d)",
                index,
                now.step,
                getattr(event, "reason", event),
                now.rollbacks,
            )
        if now.status is Status.RETIRED:
            log.warning(
                "trajectory %d: retired at MD step %d after %d returns to the same point "
                "(max_rollbacks), the last time because %s",
                index,
                now.step,
                now.rollbacks_in_row,
                getattr(event, "reason", event),
            )
        if now.status is Status.DONE and not isinstance(
            event, LabelAccepted | LabelTooHigh | LabelDiscarded
        ):
            log.info("trajectory %d: done after %d MD steps", index, now.step)


def _why_changed(before: TrajectoryState) -> str:
    """Why a trajectory is not taken up as it was."""
    match before.status:
        case Status.RETIRED:
            return "reinstated, max_rollbacks was raised"
        case Status.TRAINING:
            return f"leaves training after {before.epochs} epochs, max_epochs_worker was lowered"
    return f"done after {before.step} MD steps, max_MD_steps was lowered"
