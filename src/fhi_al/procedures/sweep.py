"""Sweeps of active learning: move, label, train.  Feeds events to ``core`` and obeys it.

A sweep goes in steps (the move of all trajectories, one label, one training visit), after each of
which the state is whole: a run can be stopped and continued between any two of them.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from dataclasses import replace

import numpy as np

from fhi_al.core.improvement import BestError, seen
from fhi_al.core.label import Label, Origin, Phase
from fhi_al.core.run_state import ActiveLearningState, Asked, SweepStage
from fhi_al.core.split import goes_to_validation
from fhi_al.core.stopping import StopRules, active_learning_stop
from fhi_al.core.threshold import ThresholdRule, crosses, observed, threshold
from fhi_al.core.trajectory import (
    Checked,
    Event,
    Exploded,
    Instruction,
    LabelAccepted,
    LabelDiscarded,
    Limits,
    Moved,
    Status,
    Trained,
    TrajectoryState,
    after,
    block_length,
    reinstated,
    sanity_check_due,
)
from fhi_al.core.uncertainty import force_uncertainty
from fhi_al.md.driver import Driver, MDFailure
from fhi_al.procedures.errors import AllRetired
from fhi_al.procedures.run import Run
from fhi_al.reference.label_pool import LabelRequest, Outcome
from fhi_al.report import clock

log = logging.getLogger(__name__)


class Sweep:
    """Carries out sweeps on a run whose ``state.active`` is set.

    Parameters
    ----------
    run : Run
    """

    def __init__(self, run: Run) -> None:
        al = run.settings.al
        self._run = run
        self._al = al
        self._limits = Limits(al.max_MD_steps or math.inf, al.max_epochs_worker, al.max_setbacks)
        self._rule = ThresholdRule(al.c_x, al.threshold_warmup, al.threshold_window)
        self._stop_rules = StopRules(al.desired_acc, al.max_set_size or math.inf)
        # Of the labels asked for, those that the pool has been handed: by trajectory.
        self._submitted: set[int] = set()

    def reinstate(self) -> None:
        """Let trajectories run again that a lower ``max_setbacks`` had retired."""
        trajectories = tuple(reinstated(t, self._limits) for t in self._state.trajectories)
        for before, now in zip(self._state.trajectories, trajectories, strict=True):
            if before != now:
                log.info("trajectory %d: reinstated, max_setbacks was raised", now.index)
        self._update(trajectories=trajectories)

    def stop_reason(self) -> str | None:
        """Why active learning is over; None if it goes on, which it does in the midst of a sweep.

        Raises
        ------
        AllRetired
            If no trajectory moves any more and none came to its end.
        """
        state = self._state
        if state.stage is not SweepStage.MOVE:
            return None
        reason = active_learning_stop(
            self._stop_rules, state.mae_forces, self._n_training, state.trajectories
        )
        if reason is not None and all(t.status is Status.RETIRED for t in state.trajectories):
            raise AllRetired(
                f"active learning: all {len(state.trajectories)} trajectories were retired after "
                f"{self._al.max_setbacks} returns to the same point (max_setbacks): expected MD "
                "that gets somewhere; AL.log says what went wrong each time. Raise max_setbacks "
                "and run again to give them another chance; or start in a new folder with a lower "
                "MD.temperature or MD.timestep, or a better initial dataset (a smaller lambda)."
            )
        return reason

    def progress(self) -> str:
        """How far active learning is, in a line."""
        state = self._state
        counts = Counter(str(trajectory.status) for trajectory in state.trajectories)
        steps = [trajectory.step for trajectory in state.trajectories]
        target = self._al.max_MD_steps or "any"
        mae = "not measured yet" if state.mae_forces is None else f"{state.mae_forces:.4f} eV/A"
        return (
            f"sweep {state.sweep}: trajectories "
            + ", ".join(f"{count} {status}" for status, count in counts.items())
            + f"; MD steps {min(steps)} to {max(steps)} of {target}; "
            f"{self._run.store.n_labels} labels; force MAE {mae}"
        )

    def step(self) -> None:
        """The next step: the move of all trajectories, the labels the pool has ready, or a visit.

        Raises
        ------
        Stopped
            From the label pool, before anything has changed.
        """
        match self._state.stage:
            case SweepStage.MOVE:
                self._move()
                self._update(stage=SweepStage.LABEL)
            case SweepStage.LABEL:
                self._take_in_labels()
            case SweepStage.TRAIN:
                self._visit_next()
        # Past stages with nothing left to do, so that every step does something.
        if self._state.stage is SweepStage.LABEL and not self._state.asked:
            self._update(stage=SweepStage.TRAIN, next_visit=0)
        if self._state.stage is SweepStage.TRAIN and self._next_to_train() is None:
            self._update(stage=SweepStage.MOVE, sweep=self._state.sweep + 1)

    @property
    def _state(self) -> ActiveLearningState:
        state = self._run.state.active
        assert state is not None
        return state

    @property
    def _n_training(self) -> int:
        return len(self._run.ensemble.members[0].training)

    def _update(self, **changes: object) -> None:
        active = replace(self._state, **changes)  # type: ignore[arg-type]
        self._run.state = replace(self._run.state, active=active)

    def _with_status(self, status: Status) -> list[TrajectoryState]:
        return [t for t in self._state.trajectories if t.status is status]

    # ------------------------------------------------------------------ move

    def _move(self) -> None:
        """Every running trajectory advances one block; those that arrive are checked, in order."""
        arrived = []
        for trajectory in self._with_status(Status.RUNNING):
            walker = self._run.walkers[trajectory.index]
            n_steps = block_length(trajectory, self._al.skip_step_mlff, self._limits)
            try:
                with self._run.clock.section(clock.MD):
                    walker.point = self._driver(trajectory).advance(
                        walker.point, n_steps, walker.generator
                    )
            except MDFailure as failure:
                self._tell(trajectory.index, Exploded(n_steps, str(failure)))
                continue
            self._tell(trajectory.index, Moved(n_steps))
            arrived.append(trajectory)
        for before in arrived:
            self._check(before)

    def _driver(self, trajectory: TrajectoryState) -> Driver:
        member = None
        if self._al.md_forces == "member":
            # Another member drives after every check; which one follows from the saved state.
            n_members = len(self._run.ensemble.members)
            member = (self._state.sweep + trajectory.index) % n_members
        return self._run.driver(trajectory.system, trajectory.md, member)

    def _check(self, before: TrajectoryState) -> None:
        run, index = self._run, before.index
        now = self._state.trajectories[index]
        point = run.walkers[index].point
        with run.clock.section(clock.MD):
            forces = run.ensemble.forces(
                replace(run.systems[now.system], positions=point.positions, cell=point.cell)
            )
        uncertainty = force_uncertainty(forces, self._al.uncertainty_type)
        if not np.isfinite(uncertainty):
            self._tell(index, Exploded(0, "the uncertainty is not finite"))
            return
        limit = self._observe(now.system, uncertainty)
        crossed = crosses(uncertainty, limit) and self._has_room()
        due = sanity_check_due(before.step, now.step, self._al.sanity_skip)
        run.journal.add(
            "check",
            sweep=self._state.sweep,
            trajectory=index,
            md_step=now.step,
            uncertainty=uncertainty,
            threshold=limit,
            crosses=crossed,
        )
        if crossed:
            since = now.step - now.last_crossing
            run.journal.add("crossing", trajectory=index, md_step=now.step, steps_since_last=since)
        self._tell(index, Checked(crossed))
        sanity = self._al.analysis and due
        if crossed or sanity:
            mean_forces = tuple((x, y, z) for x, y, z in forces.mean(axis=0).tolist())
            asked = Asked(index, uncertainty, limit, crossed, sanity, mean_forces)
            self._update(asked=(*self._state.asked, asked))

    def _observe(self, system: int, uncertainty: float) -> float | None:
        """Add to the moving average of the system; the threshold, the current estimate included."""
        histories = list(self._state.uncertainties)
        histories[system] = observed(histories[system], uncertainty, self._rule.window)
        self._update(uncertainties=tuple(histories))
        return threshold(histories[system], self._rule)

    def _has_room(self) -> bool:
        # A label that no set can take would be DFT time for nothing.
        coming = sum(asked.crossed for asked in self._state.asked)
        return self._n_training + coming < self._stop_rules.max_set_size

    # ------------------------------------------------------------------ label

    def _take_in_labels(self) -> None:
        """Take in what the pool has finished of the labels that were asked for."""
        for asked in self._state.asked:
            if asked.trajectory not in self._submitted:
                self._run.labels.submit(self._request(asked))
                self._submitted.add(asked.trajectory)
        for outcome in self._run.labels.poll():
            self._take_in(outcome)

    def _request(self, asked: Asked) -> LabelRequest:
        trajectory = self._state.trajectories[asked.trajectory]
        point = self._run.walkers[asked.trajectory].point
        phase: Phase = "active_learning" if asked.crossed else "sanity"
        origin = Origin(phase, asked.trajectory, trajectory.step)
        return LabelRequest(trajectory.system, point.positions, point.cell, origin)

    def _take_in(self, outcome: Outcome) -> None:
        index = outcome.request.origin.trajectory
        (asked,) = (each for each in self._state.asked if each.trajectory == index)
        self._submitted.remove(index)
        self._update(asked=tuple(each for each in self._state.asked if each is not asked))
        if not isinstance(outcome.record, Label):
            self._tell(index, LabelDiscarded(outcome.record.reason))
            return
        joins = asked.crossed
        if asked.is_sanity_check:
            joins = self._compare(outcome, outcome.record, asked) or joins
        if joins:
            self._add(index, outcome.record)

    def _compare(self, outcome: Outcome, label: Label, asked: Asked) -> bool:
        """Journal the true error of a sanity check; whether the point has earned its place."""
        system = outcome.request.system
        difference = np.array(asked.forces) - label.forces
        mae = float(np.abs(difference).mean())
        histories = list(self._state.true_errors)
        histories[system] = observed(histories[system], mae, self._rule.window)
        self._update(true_errors=tuple(histories))
        average = histories[system].mean
        joins = self._al.sanity_action == "add" and average is not None and mae > average
        self._run.journal.add(
            "sanity",
            sweep=self._state.sweep,
            trajectory=outcome.request.origin.trajectory,
            md_step=outcome.request.origin.step,
            uncertainty=asked.uncertainty,
            threshold=asked.threshold,
            mae_forces=mae,
            max_force_error=float(np.linalg.norm(difference, axis=1).max()),
            joined=joins or asked.crossed,
        )
        return joins

    def _add(self, index: int, label: Label) -> None:
        state = self._state
        to_validation = goes_to_validation(state.n_validation, state.n_points, self._al.valid_ratio)
        self._run.add_point(label, to_validation=to_validation)
        self._update(n_points=state.n_points + 1, n_validation=state.n_validation + to_validation)
        if to_validation:
            # Errors on another validation set cannot be compared with those before.
            self._update(
                plateaus=tuple(BestError(epoch=p.epoch, best_epoch=p.epoch) for p in state.plateaus)
            )
        member = self._run.ensemble.members[0]
        log.info(
            "sweep %d, trajectory %d, MD step %d: point joins %s; %d labels, %d + %d points",
            state.sweep,
            index,
            state.trajectories[index].step,
            "validation" if to_validation else "training",
            self._run.store.n_labels,
            len(member.training),
            len(member.validation),
        )
        self._tell(index, LabelAccepted(to_validation))

    # ------------------------------------------------------------------ train

    def _next_to_train(self) -> TrajectoryState | None:
        """Whose visit is next: each sweep has one for every trajectory in training, in order."""
        state = self._state
        reached = state.mae_forces is not None and state.mae_forces < self._stop_rules.desired_acc
        if reached and state.next_visit > 0:
            return None
        waiting = (t for t in self._with_status(Status.TRAINING) if t.index >= state.next_visit)
        return next(waiting, None)

    def _visit_next(self) -> None:
        trajectory = self._next_to_train()
        assert trajectory is not None
        self._visit(trajectory)
        self._update(next_visit=trajectory.index + 1)

    def _visit(self, trajectory: TrajectoryState) -> None:
        run, state = self._run, self._state
        n_epochs = min(self._al.intermediate_epochs, self._al.max_epochs_worker - trajectory.epochs)
        members = list(range(len(run.ensemble.members)))
        visit = run.train("active learning", state.epochs, n_epochs, members)
        epochs = state.epochs + n_epochs
        plateaus = [
            self._kicked_if_stuck(index, seen(plateau, mae, epochs, self._al.margin))
            for index, (plateau, mae) in enumerate(zip(state.plateaus, visit.maes, strict=True))
        ]
        self._update(epochs=epochs, mae_forces=visit.mae, plateaus=tuple(plateaus))
        self._tell(trajectory.index, Trained(n_epochs))
        log.info(
            "sweep %d: trained %d epochs for trajectory %d, force MAE %.4f eV/A (target %g); %s",
            state.sweep,
            n_epochs,
            trajectory.index,
            visit.mae,
            self._stop_rules.desired_acc,
            visit.words,
        )

    def _kicked_if_stuck(self, index: int, plateau: BestError) -> BestError:
        """A member whose error has stopped falling gets a fresh optimizer state; weights stay."""
        if plateau.epochs_without_improvement < self._al.max_epochs_worker:
            return plateau
        self._run.ensemble.members[index].fresh_optimizer(scheduler=False)
        log.info(
            "member %d: no improvement for %d epochs, its optimizer starts afresh",
            index,
            plateau.epochs_without_improvement,
        )
        return replace(plateau, best_epoch=plateau.epoch)

    # ------------------------------------------------------------------ events

    def _tell(self, index: int, event: Event) -> None:
        """Feed an event to a trajectory and carry out what touches its walker."""
        trajectories = list(self._state.trajectories)
        trajectories[index], instructions = after(trajectories[index], event, self._limits)
        self._update(trajectories=tuple(trajectories))
        walker = self._run.walkers[index]
        now = trajectories[index]
        if Instruction.SET_RESTART_POINT in instructions:
            walker.restart_point = walker.point
        if Instruction.GO_BACK in instructions:
            walker.go_back(self._run.driver(now.system, now.md, None))
            log.warning(
                "trajectory %d, MD step %d: %s; back to the last good point with new velocities "
                "(setback %d)",
                index,
                now.step,
                getattr(event, "reason", event),
                now.setbacks,
            )
        if now.status is Status.RETIRED:
            log.warning(
                "trajectory %d: retired at MD step %d after %d returns to the same point "
                "(max_setbacks), the last time because %s",
                index,
                now.step,
                now.setbacks_in_row,
                getattr(event, "reason", event),
            )
        if now.status is Status.DONE and not isinstance(event, LabelAccepted | LabelDiscarded):
            log.info("trajectory %d: done after %d MD steps", index, now.step)
