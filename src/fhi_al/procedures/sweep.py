"""One sweep of active learning: move, label, train.  Feeds events to ``core`` and obeys it."""

from __future__ import annotations

import logging
import math
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from fhi_al.core.improvement import BestError, seen
from fhi_al.core.label import Label, Origin
from fhi_al.core.run_state import ActiveLearningState
from fhi_al.core.split import goes_to_validation
from fhi_al.core.stopping import StopRules, active_learning_stop
from fhi_al.core.structure import Array
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
    sanity_check_due,
)
from fhi_al.core.uncertainty import force_uncertainty
from fhi_al.md.driver import Driver, MDFailure
from fhi_al.procedures.run import Run
from fhi_al.reference.label_pool import LabelRequest, Outcome
from fhi_al.report import clock

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Asked:
    """What the ensemble said of a structure when its label was asked for.

    ``forces`` is the ensemble mean, (n_atoms, 3) in eV/A; uncertainty and threshold in eV/A.
    """

    uncertainty: float
    threshold: float | None
    forces: Array
    crossed: bool
    is_sanity_check: bool


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
        self._limits = Limits(al.max_MD_steps or math.inf, al.max_epochs_worker)
        self._rule = ThresholdRule(al.c_x, al.threshold_warmup, al.threshold_window)
        self._stop_rules = StopRules(al.desired_acc, al.max_set_size or math.inf)
        # By trajectory; empty between sweeps where the label pool answers at once.
        self._asked: dict[int, _Asked] = {}

    def stop_reason(self) -> str | None:
        """Why active learning is over; None if it goes on."""
        state = self._state
        return active_learning_stop(
            self._stop_rules, state.mae_forces, self._n_training, state.trajectories
        )

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

    def go(self) -> None:
        """Move, label, train: one whole step of active learning."""
        self._label(self._move())
        self._train()
        self._update(sweep=self._state.sweep + 1)

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

    def _move(self) -> list[TrajectoryState]:
        """Every running trajectory advances one block; returns those that arrived, as they were."""
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
        return arrived

    def _driver(self, trajectory: TrajectoryState) -> Driver:
        member = None
        if self._al.md_forces == "member":
            # Another member drives after every check; which one follows from the saved state.
            n_members = len(self._run.ensemble.members)
            member = (self._state.sweep + trajectory.index) % n_members
        return self._run.driver(trajectory.system, trajectory.md, member)

    # ------------------------------------------------------------------ label

    def _label(self, arrived: list[TrajectoryState]) -> None:
        """Checks and requests in index order; then take in what the pool has finished."""
        for before in arrived:
            self._check(before)
        for outcome in self._run.labels.poll():
            self._take_in(outcome)

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
            origin = Origin("active_learning" if crossed else "sanity", index, now.step)
            self._asked[index] = _Asked(uncertainty, limit, forces.mean(axis=0), crossed, sanity)
            run.labels.submit(LabelRequest(now.system, point.positions, point.cell, origin))

    def _observe(self, system: int, uncertainty: float) -> float | None:
        """Add to the moving average of the system; the threshold, the current estimate included."""
        histories = list(self._state.uncertainties)
        histories[system] = observed(histories[system], uncertainty, self._rule.window)
        self._update(uncertainties=tuple(histories))
        return threshold(histories[system], self._rule)

    def _has_room(self) -> bool:
        # A label that no set can take would be DFT time for nothing.
        coming = sum(asked.crossed for asked in self._asked.values())
        return self._n_training + coming < self._stop_rules.max_set_size

    def _take_in(self, outcome: Outcome) -> None:
        index = outcome.request.origin.trajectory
        asked = self._asked.pop(index)
        if not isinstance(outcome.record, Label):
            self._tell(index, LabelDiscarded(outcome.record.reason))
            return
        joins = asked.crossed
        if asked.is_sanity_check:
            joins = self._compare(outcome, outcome.record, asked) or joins
        if joins:
            self._add(index, outcome.record)

    def _compare(self, outcome: Outcome, label: Label, asked: _Asked) -> bool:
        """Journal the true error of a sanity check; whether the point has earned its place."""
        system = outcome.request.system
        error = np.abs(asked.forces - label.forces)
        mae = float(error.mean())
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
            max_force_error=float(np.linalg.norm(asked.forces - label.forces, axis=1).max()),
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

    def _train(self) -> None:
        """A visit for every trajectory in training, in index order."""
        for trajectory in self._with_status(Status.TRAINING):
            self._visit(trajectory)
            mae = self._state.mae_forces
            if mae is not None and mae < self._stop_rules.desired_acc:
                return

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
        if now.status is Status.DONE and not isinstance(event, LabelAccepted | LabelDiscarded):
            log.info("trajectory %d: done after %d MD steps", index, now.step)
