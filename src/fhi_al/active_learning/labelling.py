"""Which structures get a label, and what becomes of it: checks, requests, results."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from fhi_al.active_learning.disagreement import Disagreement
from fhi_al.active_learning.excess_energy import ExcessEnergy
from fhi_al.active_learning.frames import frame_of, request_of
from fhi_al.active_learning.options import Criterion, LabellingOptions
from fhi_al.active_learning.points import Points
from fhi_al.active_learning.propagation import Dynamics
from fhi_al.active_learning.thresholds import Thresholds
from fhi_al.active_learning.trajectories import Trajectories
from fhi_al.core.label import Label, Phase
from fhi_al.core.run_state import PendingLabel
from fhi_al.core.threshold import observed
from fhi_al.core.trajectory import (
    Checked,
    Exploded,
    LabelDiscarded,
    Status,
    TrajectoryState,
    Withdrawn,
    sanity_check_due,
)
from fhi_al.labels.serial_queue import LabelQueue, Outcome
from fhi_al.labels.validation import LabelRequest
from fhi_al.report.clock import Clock
from fhi_al.report.journal import Journal

log = logging.getLogger(__name__)


class Labelling:
    """The labels that active learning asks for.

    Parameters
    ----------
    trajectories : Trajectories
    points : Points
        Where accepted labels go.
    queue : LabelQueue
    dynamics : Dynamics
        Its members say again how much they disagree on structures that wait.
    journal, clock : Journal, Clock
    criterion : Criterion
    options : LabellingOptions
    """

    def __init__(
        self,
        trajectories: Trajectories,
        points: Points,
        queue: LabelQueue,
        dynamics: Dynamics,
        journal: Journal,
        clock: Clock,
        criterion: Criterion,
        options: LabellingOptions,
    ) -> None:
        self._trajectories = trajectories
        self._points = points
        self._queue = queue
        self._journal = journal
        self._criterion = criterion
        self._options = options
        self._system_of = dynamics.system_of
        self._disagreement = Disagreement(dynamics, criterion, clock)
        self._excess = ExcessEnergy(
            options.max_excess_energy, points.mean_energy_before, dynamics.md_system
        )
        self._thresholds = Thresholds(
            trajectories.progress, criterion, journal, points.rms_force_before
        )
        # Of the pending labels, those that the queue has been handed.
        self._submitted: set[tuple[int, int]] = set()

    def check(self, before: TrajectoryState) -> None:
        """Ask for a label of a trajectory's point if the ensemble disagrees on it, or one is due.

        Parameters
        ----------
        before : TrajectoryState
            The trajectory before its last block; its live part has every member's forces.
        """
        index = before.index
        now = self._trajectories.state.trajectories[index]
        live, moved = self._trajectories.live[index], self._system_of(now)
        where = {"md": moved.conditions.name, "system": moved.name}
        spread = self._disagreement.at(now.system, live)
        if not spread.is_finite:
            self._trajectories.apply(index, Exploded(0, "the uncertainty is not finite"))
            return
        limit = self._thresholds.observe(now.system, spread.forces)
        crossed = self._disagreement.is_too_large(spread, limit) and self._points.has_room()
        skip = self._options.sanity_skip
        is_due = skip is not None and sanity_check_due(before.step, now.step, skip)
        sanity = is_due and (crossed or self._points.may_label())
        self._journal.add(
            "check",
            sweep=self._trajectories.state.sweep,
            trajectory=index,
            md_step=now.step,
            uncertainty=spread.forces,
            threshold=limit,
            crosses=crossed,
            stress_uncertainty=spread.stress,
            stress_threshold=self._criterion.stress_limit,
            temperature=moved.temperature(live.point),
            energy=live.energy,
            volume=abs(float(np.linalg.det(live.point.cell))) if moved.structure.pbc else None,
            **where,
        )
        if crossed:
            since = now.step - now.last_crossing
            self._journal.add(
                "crossing", trajectory=index, md_step=now.step, steps_since_last=since, **where
            )
        self._trajectories.apply(index, Checked(crossed))
        if crossed or sanity:
            forces, stress = self._disagreement.means(now.system, live)
            state = self._trajectories.state
            pending = PendingLabel(
                trajectory=index,
                frame=frame_of(live.point, now.step),
                epochs=state.epochs,
                uncertainty=spread.forces,
                threshold=limit,
                crossed=crossed,
                is_sanity_check=sanity,
                forces=forces,
                stress=stress,
            )
            self._trajectories.update(pending=(*state.pending, pending))

    def take_in(self, *, wait: bool) -> None:
        """Take in what the queue has finished of the pending labels.

        Parameters
        ----------
        wait : bool
            There is nothing else to do.
        """
        self.submit()
        for outcome in self._queue.poll(wait=wait):
            self._take_in(outcome)

    def submit(self) -> None:
        """Hand to the queue the pending labels that it does not have yet."""
        if len(self._submitted) == len(self._trajectories.state.pending):
            return  # most calls: after every label
        for pending in self._trajectories.state.pending:
            if _name(pending) not in self._submitted:
                self._submitted.add(_name(pending))
                self._queue.submit(self._request(pending))

    def rescore(self) -> None:
        """Withdraw labels that the ensemble, trained meanwhile, does not need any more.

        Only of structures that no engine has begun; a sanity check is never withdrawn.
        """
        state = self._trajectories.state
        if not self._options.rescore or state.rescored == state.epochs:
            return
        earlier = [
            pending
            for pending in state.pending
            if pending.crossed and not pending.is_sanity_check and pending.epochs < state.epochs
        ]
        if not earlier:
            return
        # A run that goes on hands in what was withdrawn before, so that it is withdrawn again.
        self.submit()
        self._trajectories.update(rescored=state.epochs)
        learnt = self._learnt(earlier)
        if not learnt:
            return
        for pending in self._withdrawn(learnt):
            self._forget(pending)
            self._trajectories.update(n_withdrawn=self._trajectories.state.n_withdrawn + 1)
            self._trajectories.apply(pending.trajectory, Withdrawn())
            log.info(
                "trajectory %d, MD step %d: the ensemble has learnt the point meanwhile, its label "
                "is not needed (%d so far)",
                pending.trajectory,
                pending.frame.step,
                self._trajectories.state.n_withdrawn,
            )

    def drain(self) -> None:
        """Before active learning ends: take back points no engine has begun, take in the others.

        Sanity checks are done nevertheless: the user wants their record.
        """
        self.submit()
        pending = self._trajectories.state.pending
        for point in self._withdrawn([each for each in pending if not each.is_sanity_check]):
            self._forget(point)
        if self._trajectories.state.pending:
            self.take_in(wait=True)

    def _learnt(self, waiting: Sequence[PendingLabel]) -> list[PendingLabel]:
        """Those on whose structures the ensemble does not disagree any more."""
        state = self._trajectories.state
        systems = [state.trajectories[pending.trajectory].system for pending in waiting]
        points = [
            (np.array(pending.frame.positions), np.array(pending.frame.cell)) for pending in waiting
        ]
        found = zip(waiting, systems, self._disagreement.on(systems, points), strict=True)
        return [
            pending
            for pending, system, spread in found
            if spread.is_finite
            and not self._disagreement.is_too_large(spread, self._thresholds.limit(system))
        ]

    def _withdrawn(self, pending: Sequence[PendingLabel]) -> list[PendingLabel]:
        """Those that could be taken back from the queue."""
        by_name = {_name(each): each for each in pending}
        requests = self._queue.withdraw([self._request(each) for each in pending])
        return [by_name[each.origin.trajectory, each.origin.step] for each in requests]

    def _request(self, pending: PendingLabel) -> LabelRequest:
        trajectory = self._trajectories.state.trajectories[pending.trajectory]
        phase: Phase = "active_learning" if pending.crossed else "sanity"
        return request_of(pending.frame, phase, trajectory, self._system_of(trajectory))

    def _forget(self, pending: PendingLabel) -> None:
        self._submitted.discard(_name(pending))
        self._trajectories.update(
            pending=tuple(each for each in self._trajectories.state.pending if each is not pending)
        )

    def _take_in(self, outcome: Outcome) -> None:
        origin = outcome.request.origin
        name = (origin.trajectory, origin.step)
        (pending,) = (each for each in self._trajectories.state.pending if _name(each) == name)
        self._forget(pending)
        index = pending.trajectory
        trajectory = self._trajectories.state.trajectories[index]
        # A trajectory goes on, trains, or goes back while its sanity check is computed.
        is_here = self._trajectories.is_at(index, pending.frame)
        if not isinstance(outcome.record, Label):
            self._trajectories.apply(index, LabelDiscarded(outcome.record.reason, is_here))
            return
        self._thresholds.compare(pending, outcome.record)
        joins = pending.crossed
        if pending.is_sanity_check:
            joins = self._compare(outcome, outcome.record, pending) or joins
        too_high = ""
        if not self._trajectories.has_left(index, pending.frame):
            too_high = self._excess.problem(outcome.record, trajectory.md)
        if joins:
            self._points.add(pending, outcome.record, is_here, too_high)
            return
        self._points.leave_out(outcome.record)
        if too_high and trajectory.status is Status.RUNNING:
            self._trajectories.apply(index, Exploded(0, too_high))

    def _compare(self, outcome: Outcome, label: Label, pending: PendingLabel) -> bool:
        """Journal the true error of a sanity check; whether the point has earned its place."""
        system = outcome.request.system
        difference = np.array(pending.forces) - label.forces
        mae = float(np.abs(difference).mean())
        histories = list(self._trajectories.state.true_errors)
        histories[system] = observed(histories[system], mae, self._criterion.rule.window)
        self._trajectories.update(true_errors=tuple(histories))
        average = histories[system].mean
        mae_stress = None
        if pending.stress is not None and label.stress is not None:
            mae_stress = float(np.abs(np.array(pending.stress) - label.stress).mean())
        match self._options.sanity_action:
            case "record":
                joins = False
            case "add":
                joins = average is not None and mae > average
            case "add_all":
                joins = self._points.has_room()
        self._journal.add(
            "sanity",
            sweep=self._trajectories.state.sweep,
            trajectory=outcome.request.origin.trajectory,
            md_step=outcome.request.origin.step,
            uncertainty=pending.uncertainty,
            threshold=pending.threshold,
            mae_forces=mae,
            max_force_error=float(np.linalg.norm(difference, axis=1).max()),
            joined=joins or pending.crossed,
            mae_stress=mae_stress,
            md=outcome.request.origin.md,
            system=outcome.request.origin.system,
        )
        return joins


def _name(pending: PendingLabel) -> tuple[int, int]:
    return pending.trajectory, pending.frame.step
