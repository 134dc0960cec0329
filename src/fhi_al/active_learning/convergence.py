"""Train without new points until the errors stop falling, in one or two stages; keep the best.

Decides which weights a member ends with.  Adds no labels.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from fhi_al.active_learning.options import ConvergenceOptions
from fhi_al.active_learning.progress import Progress
from fhi_al.active_learning.round_result import RoundResult
from fhi_al.active_learning.training_rounds import TrainingRounds
from fhi_al.core.convergence import (
    ConvergenceStage,
    ConvergenceState,
    Course,
    StageErrors,
    UnseenErrors,
    best_stage,
    is_better,
)
from fhi_al.core.stopping import convergence_stop
from fhi_al.report.error_table import mean

log = logging.getLogger(__name__)

# Epochs between two comparisons of the weights with the best ones, which take some time.
COMPARED_EVERY = 5


@dataclass(frozen=True, eq=False)
class Convergence:
    """Converges members on their own sets, from a fresh optimizer with the LR scheduler on.

    A stage ends when neither the validation errors of forces and energies nor the training loss
    have fallen for ``patience`` epochs, in the mean over the members.  A second stage (``swa``)
    goes on from each member's best weights with other weights in the loss.  Each member ends with
    its best weights by forces, energies and, if it is trained on, the stress of labels that it has
    not trained on.

    Parameters
    ----------
    progress : Progress
        Its ``state.convergence`` is where an interrupted convergence goes on.
    training : TrainingRounds
    step : callable
        Returns a context manager in which a training round is done as a whole or not at all.
    options : ConvergenceOptions
    """

    progress: Progress
    training: TrainingRounds
    step: Callable[[], AbstractContextManager[None]]
    options: ConvergenceOptions

    def run(self, phase: str, members: Sequence[int], *, anew: bool = False) -> None:
        """Converge members.

        Parameters
        ----------
        phase : str
            Name under which the epochs are journalled.
        members : sequence of int
            Not used where an interrupted convergence goes on.
        anew : bool
            From initial weights instead of the present ones, to which a member falls back that has
            not become better.  Nor is this used where an interrupted convergence goes on.
        """
        if self.progress.state.convergence is None:
            self._begin(phase, members, anew)
        elif not self._state.stages[-1].errors:
            self._measure_best(phase)
        while True:
            reason = self._stop_reason()
            if reason is None:
                with self.step():
                    self._train(phase)
            elif self._second_stage_follows():
                with self.step():
                    self._begin_second_stage(phase, reason)
            else:
                break
        self._keep_best(phase, reason)

    @property
    def _state(self) -> ConvergenceState:
        state = self.progress.state.convergence
        assert state is not None
        return state

    def _limit(self) -> tuple[str, int]:
        """The key that limits the epochs of the stage under way, and its value."""
        options, start = self.options, self.options.second_stage_start
        is_first = self._state.stage is not ConvergenceStage.SECOND
        if start is not None and is_first and start < options.max_epochs:
            return "start_swa", start
        return "max_final_epochs", options.max_epochs

    def _stop_reason(self) -> str | None:
        state = self._state
        if state.diverged:
            return f"training of members {', '.join(map(str, state.diverged))} diverged"
        key, limit = self._limit()
        return convergence_stop(state.course, self.options.patience, limit, key)

    def _second_stage_follows(self) -> bool:
        state, options = self._state, self.options
        return (
            options.second_stage_start is not None
            and state.stage is ConvergenceStage.FIRST
            and state.course.epoch < options.max_epochs
        )

    def _begin(self, phase: str, members: Sequence[int], anew: bool) -> None:
        stages = []
        if anew:
            stages.append(self._as_they_are(phase, ConvergenceStage.BEFORE, members))
            for index in members:
                self.training.ensemble.members[index].begin_anew()
            log.info("%s: from initial weights, on all labels", phase)
        for index in members:
            self.training.ensemble.members[index].fresh_optimizer(scheduler=True)
        # The weights it starts from are the first candidate for "best".
        stages.append(self._as_they_are(phase, ConvergenceStage.FIRST, members))
        course = self._course_from(0, members)
        self.progress.update(convergence=ConvergenceState(tuple(members), course, tuple(stages)))

    def _as_they_are(
        self, phase: str, stage: ConvergenceStage, members: Sequence[int]
    ) -> StageErrors:
        """The members' weights count as the best of a stage."""
        errors = []
        for index in members:
            errors.append(self.training.unseen_errors(phase, 0, index))
            self._remember(stage, index)
        return StageErrors(stage, tuple(errors))

    def _course_from(self, epoch: int, members: Sequence[int]) -> Course:
        errors = [self.training.ensemble.members[index].validate() for index in members]
        return Course.begun(
            epoch,
            mean([each.mae_forces for each in errors]),
            mean([each.mae_energy_per_atom for each in errors]),
        )

    def _remember(self, stage: ConvergenceStage, index: int) -> None:
        weights = self.training.ensemble.members[index].weights()
        self.progress.best_weights[stage, index] = weights

    def _begin_second_stage(self, phase: str, reason: str) -> None:
        """From the best weights of the first stage; which are none of the second one's."""
        state = self._state
        for index in state.members:
            member = self.training.ensemble.members[index]
            member.set_weights(self.progress.best_weights[ConvergenceStage.FIRST, index])
            member.begin_second_stage()
        none = StageErrors(ConvergenceStage.SECOND, (UnseenErrors(),) * len(state.members))
        epoch = state.course.epoch
        self.progress.update(
            convergence=replace(
                state,
                course=self._course_from(epoch, state.members),
                stages=(*state.stages, none),
                compared_at=epoch,
            )
        )
        log.info("%s: second stage after %d epochs: %s", phase, epoch, reason)

    def _train(self, phase: str) -> None:
        state, options = self._state, self.options
        before, (key, limit) = state.course.epoch, self._limit()
        n_epochs = min(options.epochs_per_round, limit - before)
        is_second = state.stage is ConvergenceStage.SECOND
        result = self.training.train(
            phase, before, n_epochs, state.members, tolerates_divergence=is_second
        )
        epoch = before + n_epochs
        course = state.course.after(
            epoch,
            result.mae,
            result.mae_energy_per_atom if options.with_energies else math.nan,
            result.loss,
            options.margin,
        )
        state = replace(state, course=course, diverged=result.diverged if is_second else ())
        if epoch - state.compared_at >= COMPARED_EVERY or epoch == limit:
            state = self._compared(phase, state)
        self.progress.update(convergence=state)
        self._log_round(phase, f"epoch {epoch} of at most {limit} ({key})", result)

    def _compared(self, phase: str, state: ConvergenceState) -> ConvergenceState:
        """Remember the weights that are better than the best so far."""
        *earlier, now = state.stages
        errors = []
        for index, best in zip(state.members, now.errors, strict=True):
            found = self.training.unseen_errors(phase, state.course.epoch, index)
            if index not in state.diverged and is_better(
                found,
                best,
                with_energies=self.options.with_energies,
                with_stress=self.options.with_stress,
            ):
                self._remember(now.stage, index)
                best = found
            errors.append(best)
        stages = (*earlier, StageErrors(now.stage, tuple(errors)))
        return replace(state, stages=stages, compared_at=state.course.epoch)

    def _measure_best(self, phase: str) -> None:
        """Errors of best weights that an older program has chosen in another way."""
        state = self._state
        *earlier, now = state.stages
        errors = []
        for index in state.members:
            member = self.training.ensemble.members[index]
            weights = member.weights()
            member.set_weights(self.progress.best_weights[now.stage, index])
            errors.append(self.training.unseen_errors(phase, state.course.epoch, index))
            member.set_weights(weights)
        stages = (*earlier, StageErrors(now.stage, tuple(errors)))
        self.progress.update(convergence=replace(state, stages=stages))

    def _log_round(self, phase: str, epochs: str, result: RoundResult) -> None:
        course = self._state.course
        log.info(
            "%s: %s, force MAE %.4f eV/A (best %.4f; %d epochs without improvement of forces, "
            "energies or loss); %s",
            phase,
            epochs,
            result.mae,
            course.forces.best,
            course.epochs_without_improvement,
            result.message,
        )

    def _keep_best(self, phase: str, reason: str) -> None:
        state, options = self._state, self.options
        for place, index in enumerate(state.members):
            kept = best_stage(
                state.stages,
                place,
                with_energies=options.with_energies,
                with_stress=options.with_stress,
            )
            member = self.training.ensemble.members[index]
            member.set_weights(self.progress.best_weights[kept, index])
            log.info(
                "%s: member %d keeps the best weights of the %s; errors on points it has not "
                "trained on: %s",
                phase,
                index,
                kept.full_name,
                "; ".join(f"{one.stage.full_name} {one.errors[place]}" for one in state.stages),
            )
        errors = [self.training.ensemble.members[k].validate() for k in state.members]
        log.info(
            "%s ends after %d epochs: %s; force MAE of the weights kept %.4f eV/A on validation",
            phase,
            state.course.epoch,
            reason,
            mean([each.mae_forces for each in errors]),
        )
