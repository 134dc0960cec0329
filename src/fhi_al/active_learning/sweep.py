"""Sweeps of active learning: move, label, train.

A sweep goes in steps (the move of all trajectories, one label, one training round), after each of
which the state is whole: a run can be stopped and continued between any two of them.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from fhi_al.active_learning.candidates import Candidates
from fhi_al.active_learning.errors import AllRetired
from fhi_al.active_learning.labelling import Labelling
from fhi_al.active_learning.options import SweepOptions
from fhi_al.active_learning.points import Points
from fhi_al.active_learning.propagation import Propagation
from fhi_al.active_learning.training_rounds import TrainingRounds
from fhi_al.active_learning.trajectories import Trajectories
from fhi_al.core.improvement import BestError, with_error
from fhi_al.core.run_state import ActiveLearningState, SweepStage
from fhi_al.core.stopping import NobodyLeft, StopRules, active_learning_stop
from fhi_al.core.trajectory import (
    Exploded,
    Moved,
    Status,
    Trained,
    TrajectoryState,
    block_length,
)
from fhi_al.labels.serial_queue import LabelQueue
from fhi_al.models.member import Member
from fhi_al.report import clock
from fhi_al.report.clock import Clock

log = logging.getLogger(__name__)


class Sweep:
    """Carries out sweeps on a run whose active learning has begun.

    Parameters
    ----------
    trajectories : Trajectories
    propagation : Propagation
    labelling : Labelling
    points : Points
    candidates : Candidates
    training : TrainingRounds
    queue : LabelQueue
    clock : Clock
    options : SweepOptions
    stop : StopRules
    """

    def __init__(
        self,
        trajectories: Trajectories,
        propagation: Propagation,
        labelling: Labelling,
        points: Points,
        candidates: Candidates,
        training: TrainingRounds,
        queue: LabelQueue,
        clock: Clock,
        options: SweepOptions,
        stop: StopRules,
    ) -> None:
        self._trajectories = trajectories
        self._propagation = propagation
        self._labelling = labelling
        self._points = points
        self._candidates = candidates
        self._training = training
        self._queue = queue
        self._clock = clock
        self._options = options
        self._stop_rules = stop

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
        try:
            return active_learning_stop(
                self._stop_rules,
                state.mae_to_reach,
                self._points.n_training(),
                len(self._queue.validator.given),
                state.trajectories,
            )
        except NobodyLeft as nobody:
            limit = self._trajectories.limits.max_rollbacks_in_row
            raise AllRetired(
                f"active learning: all {len(state.trajectories)} trajectories were retired after "
                f"{limit} returns to the same point (max_rollbacks): expected MD that gets "
                "somewhere; AL.log says what went wrong each time. Raise max_rollbacks and run "
                "again to give them another chance; or start in a new folder with a lower "
                "MD.temperature or MD.timestep, or a better initial dataset (a smaller lambda)."
            ) from nobody

    def progress(self) -> str:
        """How far active learning is, in a line."""
        state = self._state
        counts = Counter(str(trajectory.status) for trajectory in state.trajectories)
        steps = [trajectory.step for trajectory in state.trajectories]
        limit = self._trajectories.limits.max_md_steps
        target = "any" if math.isinf(limit) else f"{limit:.0f}"
        mae = "not measured yet" if state.mae_forces is None else f"{state.mae_forces:.4f} eV/A"
        return (
            f"sweep {state.sweep}: trajectories "
            + ", ".join(f"{count} {status}" for status, count in counts.items())
            + f"; MD steps {min(steps)} to {max(steps)} of {target}; "
            f"{self._queue.validator.store.n_labels} labels; force MAE {mae}"
        )

    def step(self) -> None:
        """The next step: a move of all trajectories, labels that are ready, or a training round.

        Raises
        ------
        Stopped
            From the label queue, before anything has changed.
        """
        match self._state.stage:
            case SweepStage.MOVE:
                self._move()
                self._enter(SweepStage.LABEL if self._state.pending else SweepStage.TRAIN)
            case SweepStage.LABEL:
                self._labelling.rescore()
                self._labelling.take_in(wait=self._is_idle() and not self._may_train_on())
                # What has not arrived is taken in by a later sweep.
                if not self._queue.has_more:
                    self._enter(SweepStage.TRAIN)
            case SweepStage.TRAIN if self._has_rounds():
                self._train_next()
            case SweepStage.TRAIN:
                pass  # who was in training has left it, since a limit was lowered
        # Past a stage with nothing left to do, so that every step does something.
        if self._state.stage is SweepStage.TRAIN and not self._has_rounds():
            self._enter(SweepStage.MOVE)

    def drain(self) -> None:
        """See :meth:`fhi_al.active_learning.labelling.Labelling.drain`."""
        self._labelling.drain()

    def _enter(self, stage: SweepStage) -> None:
        sweep = self._state.sweep + (stage is SweepStage.MOVE)
        next_round = 0 if stage is SweepStage.TRAIN else self._state.next_round
        self._trajectories.update(stage=stage, sweep=sweep, next_round=next_round)

    def _is_idle(self) -> bool:
        """Whether every trajectory waits for a label, or is over."""
        busy = (Status.RUNNING, Status.TRAINING)
        return not any(t.status in busy for t in self._state.trajectories)

    def _may_train_on(self) -> bool:
        """Whether to train with the data at hand, for lack of anything else to do.

        As long as that helps: no member has reached the plateau at which its optimizer is reset.
        """
        if not self._options.train_while_waiting:
            return False
        return self._training.ensemble.can_be_trained and all(
            plateau.epochs_without_improvement < self._trajectories.limits.max_epochs
            for plateau in self._state.plateaus
        )

    def _trains_on(self) -> bool:
        # Once in a sweep: the number of the next round says whether it has been.
        return (
            self._state.next_round == 0
            and bool(self._state.pending)
            and self._is_idle()
            and self._may_train_on()
        )

    def _has_rounds(self) -> bool:
        return self._next_to_train() is not None or self._trains_on()

    @property
    def _members(self) -> Sequence[Member]:
        return self._training.ensemble.members

    @property
    def _state(self) -> ActiveLearningState:
        return self._trajectories.state

    def _move(self) -> None:
        """All running trajectories advance one block together, and are checked in index order."""
        skip, limits = self._options.skip_step, self._trajectories.limits
        running = self._trajectories.with_status(Status.RUNNING)
        n_steps = [block_length(trajectory, skip, limits) for trajectory in running]
        live = [self._trajectories.live[trajectory.index] for trajectory in running]
        with self._clock.section(clock.MD):
            failures = self._propagation.advance(running, live, n_steps, self._driving_member())
        n_waiting = len(self._state.pending)
        for trajectory, n, failure in zip(running, n_steps, failures, strict=True):
            if failure is not None:
                self._trajectories.apply(trajectory.index, Exploded(n, str(failure)))
            else:
                self._trajectories.apply(trajectory.index, Moved(n))
                self._labelling.check(trajectory)
        self._candidates.choose(n_waiting)
        # Now, so that engines have work while this rank trains.
        self._labelling.submit()

    def _driving_member(self) -> int | None:
        """Who drives this sweep's MD: all, or one that hands over at the checks."""
        if self._options.mean_forces:
            return None
        return self._state.sweep % len(self._members)

    def _next_to_train(self) -> TrajectoryState | None:
        """Whose training round is next: one in each sweep for every trajectory in training."""
        state = self._state
        mae = state.mae_to_reach
        reached = mae is not None and mae < self._stop_rules.desired_acc
        if reached and state.next_round > 0:
            return None
        waiting = (
            t
            for t in self._trajectories.with_status(Status.TRAINING)
            if t.index >= state.next_round
        )
        return next(waiting, None)

    def _train_next(self) -> None:
        trajectory = self._next_to_train()
        if trajectory is not None:
            left = self._trajectories.limits.max_epochs - trajectory.epochs
            n_epochs = min(self._options.epochs_per_round, left)
            self._training_round(f"for trajectory {trajectory.index}", n_epochs)
            self._trajectories.apply(trajectory.index, Trained(n_epochs))
            self._trajectories.update(next_round=trajectory.index + 1)
        else:
            # Without optimizer resets: a member at its plateau is left alone until a point comes.
            # One epoch: a label that arrives meanwhile, and its trajectory, wait for its end.
            self._training_round("while all trajectories wait", 1, reset_optimizer=False)
            self._trajectories.update(next_round=len(self._state.trajectories))

    def _training_round(self, why: str, n_epochs: int, *, reset_optimizer: bool = True) -> None:
        state = self._state
        result = self._training.train(
            "active learning", state.epochs, n_epochs, range(len(self._members))
        )
        for live in self._trajectories.live:
            live.forces = None
        epochs = state.epochs + n_epochs
        plateaus = [
            with_error(plateau, mae, epochs, self._options.margin)
            for plateau, mae in zip(state.plateaus, result.maes, strict=True)
        ]
        if reset_optimizer:
            plateaus = [
                self._reset_optimizer_if_stuck(k, plateau) for k, plateau in enumerate(plateaus)
            ]
        self._trajectories.update(
            epochs=epochs,
            mae_forces=result.mae,
            mae_to_reach=result.mae_to_reach,
            plateaus=tuple(plateaus),
        )
        log.info(
            "sweep %d: trained %d epochs %s, %s %.4f eV/A (target %g); %s",
            state.sweep,
            n_epochs,
            why,
            "force MAE" if not result.worst_of else "force MAE of the worst system",
            result.mae_to_reach,
            self._stop_rules.desired_acc,
            result.message,
        )

    def _reset_optimizer_if_stuck(self, index: int, plateau: BestError) -> BestError:
        """A member whose error has stopped falling gets a fresh optimizer state; weights stay."""
        if plateau.epochs_without_improvement < self._trajectories.limits.max_epochs:
            return plateau
        self._members[index].fresh_optimizer(scheduler=False)
        log.info(
            "member %d: no improvement for %d epochs, its optimizer starts afresh",
            index,
            plateau.epochs_without_improvement,
        )
        return replace(plateau, best_epoch=plateau.epoch)
