"""Sweeps of active learning: move, label, train.

A sweep goes in steps (the move of all trajectories, one label, one training visit), after each of
which the state is whole: a run can be stopped and continued between any two of them.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from dataclasses import replace

from fhi_al.active_learning import training_rounds
from fhi_al.active_learning.candidates import Candidates
from fhi_al.active_learning.errors import AllRetired
from fhi_al.active_learning.labelling import Labelling
from fhi_al.active_learning.propagation import Move, Propagation
from fhi_al.active_learning.run import Run
from fhi_al.active_learning.trajectories import Trajectories
from fhi_al.core.improvement import BestError, seen
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
from fhi_al.report import clock

log = logging.getLogger(__name__)


class Sweep:
    """Carries out sweeps on a run whose ``state.active`` is set.

    Parameters
    ----------
    run : Run

    Attributes
    ----------
    trajectories : Trajectories
    """

    def __init__(self, run: Run) -> None:
        al = run.settings.al
        self.trajectories = Trajectories(run)
        self._run = run
        self._al = al
        self._propagation = Propagation(run)
        self._labelling = Labelling(run, self.trajectories)
        self._candidates = Candidates(run, self.trajectories)
        self._stop_rules = StopRules(al.desired_acc, al.max_set_size or math.inf)

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
        n_training = len(self._run.ensemble.members[0].training)
        try:
            return active_learning_stop(
                self._stop_rules, state.mae_forces, n_training, state.trajectories
            )
        except NobodyLeft as nobody:
            raise AllRetired(
                f"active learning: all {len(state.trajectories)} trajectories were retired after "
                f"{self._al.max_setbacks} returns to the same point (max_setbacks): expected MD "
                "that gets somewhere; AL.log says what went wrong each time. Raise max_setbacks "
                "and run again to give them another chance; or start in a new folder with a lower "
                "MD.temperature or MD.timestep, or a better initial dataset (a smaller lambda)."
            ) from nobody

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
        """The next step: the move of all trajectories, the labels the queue has ready, or a visit.

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
                # In the background: what has not arrived is taken in by a later sweep.
                if self._run.labels.overlaps or not self._state.pending:
                    self._enter(SweepStage.TRAIN)
            case SweepStage.TRAIN:
                self._train_next()
        # Past a stage with nothing left to do, so that every step does something.
        if self._state.stage is SweepStage.TRAIN and not self._has_rounds():
            self._enter(SweepStage.MOVE)

    def drain(self) -> None:
        """See :meth:`fhi_al.active_learning.labelling.Labelling.drain`."""
        self._labelling.drain()

    def _enter(self, stage: SweepStage) -> None:
        sweep = self._state.sweep + (stage is SweepStage.MOVE)
        next_round = 0 if stage is SweepStage.TRAIN else self._state.next_round
        self.trajectories.update(stage=stage, sweep=sweep, next_round=next_round)

    def _is_idle(self) -> bool:
        """Whether every trajectory waits for a label, or is over."""
        busy = (Status.RUNNING, Status.TRAINING)
        return not any(t.status in busy for t in self._state.trajectories)

    def _may_train_on(self) -> bool:
        """Whether to train with the data at hand, for lack of anything else to do.

        As long as that helps: no member has reached the plateau at which it is to be kicked.
        """
        if not (self._al.train_while_waiting and self._run.labels.overlaps):
            return False
        return bool(self._run.ensemble.members[0].training) and all(
            plateau.epochs_without_improvement < self._al.max_epochs_worker
            for plateau in self._state.plateaus
        )

    def _trains_on(self) -> bool:
        # Once in a sweep: the next visit's number says whether it has been.
        return (
            self._state.next_round == 0
            and bool(self._state.pending)
            and self._is_idle()
            and self._may_train_on()
        )

    def _has_rounds(self) -> bool:
        return self._next_to_train() is not None or self._trains_on()

    @property
    def _state(self) -> ActiveLearningState:
        return self.trajectories.state

    def _move(self) -> None:
        """All running trajectories advance one block together, and are checked in index order."""
        run, skip, limits = self._run, self._al.skip_step_mlff, self.trajectories.limits
        moves = [
            Move(trajectory, block_length(trajectory, skip, limits))
            for trajectory in self.trajectories.with_status(Status.RUNNING)
        ]
        with run.clock.section(clock.MD):
            moves = self._propagation.advance(moves, self._driving_member())
        n_waiting = len(self._state.pending)
        for move in moves:
            index = move.trajectory.index
            if move.failure:
                self.trajectories.tell(index, Exploded(move.n_steps, move.failure))
            else:
                self.trajectories.tell(index, Moved(move.n_steps))
                self._labelling.check(move.trajectory)
        self._candidates.choose(n_waiting)
        # Now, so that engines have work while this rank trains.
        self._labelling.submit()

    def _driving_member(self) -> int | None:
        """Who drives this sweep's MD: all, or one that hands over at the checks."""
        if self._al.md_forces == "mean":
            return None
        return self._state.sweep % len(self._run.ensemble.members)

    def _next_to_train(self) -> TrajectoryState | None:
        """Whose visit is next: each sweep has one for every trajectory in training, in order."""
        state = self._state
        reached = state.mae_forces is not None and state.mae_forces < self._stop_rules.desired_acc
        if reached and state.next_round > 0:
            return None
        waiting = (
            t for t in self.trajectories.with_status(Status.TRAINING) if t.index >= state.next_round
        )
        return next(waiting, None)

    def _train_next(self) -> None:
        trajectory = self._next_to_train()
        if trajectory is not None:
            left = self._al.max_epochs_worker - trajectory.epochs
            n_epochs = min(self._al.intermediate_epochs, left)
            self._training_round(f"for trajectory {trajectory.index}", n_epochs)
            self.trajectories.tell(trajectory.index, Trained(n_epochs))
            self.trajectories.update(next_round=trajectory.index + 1)
        else:
            # Without kicks: a member at its plateau is left alone until a point comes.
            self._training_round(
                "while all trajectories wait", self._al.intermediate_epochs, reset_optimizer=False
            )
            self.trajectories.update(next_round=len(self._state.trajectories))

    def _training_round(self, why: str, n_epochs: int, *, reset_optimizer: bool = True) -> None:
        run, state = self._run, self._state
        members = list(range(len(run.ensemble.members)))
        training_round = training_rounds.train(
            run, "active learning", state.epochs, n_epochs, members
        )
        for walker in run.walkers:
            walker.forces = None
        epochs = state.epochs + n_epochs
        plateaus = [
            seen(plateau, mae, epochs, self._al.margin)
            for plateau, mae in zip(state.plateaus, training_round.maes, strict=True)
        ]
        if reset_optimizer:
            plateaus = [
                self._reset_optimizer_if_stuck(k, plateau) for k, plateau in enumerate(plateaus)
            ]
        self.trajectories.update(
            epochs=epochs, mae_forces=training_round.mae, plateaus=tuple(plateaus)
        )
        log.info(
            "sweep %d: trained %d epochs %s, force MAE %.4f eV/A (target %g); %s",
            state.sweep,
            n_epochs,
            why,
            training_round.mae,
            self._stop_rules.desired_acc,
            training_round.words,
        )

    def _reset_optimizer_if_stuck(self, index: int, plateau: BestError) -> BestError:
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
