"""Train without new points until the validation error stops falling; keep the best weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from fhi_al.active_learning.options import ConvergenceOptions
from fhi_al.active_learning.progress import Progress
from fhi_al.active_learning.training_rounds import TrainingRounds
from fhi_al.core.improvement import BestError, improves, with_error
from fhi_al.core.run_state import ConvergenceState
from fhi_al.core.stopping import convergence_stop
from fhi_al.report.error_table import mean

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Convergence:
    """Converges members on their own sets, from a fresh optimizer with the LR scheduler on.

    Each member ends with the weights of its own lowest validation force MAE; the mean over the
    members decides when to stop.

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

    def run(self, phase: str, members: Sequence[int]) -> None:
        """Converge members.

        Parameters
        ----------
        phase : str
            Name under which the epochs are journalled.
        members : sequence of int
            Not used where an interrupted convergence goes on.
        """
        if self.progress.state.convergence is None:
            self._begin(members)
        while True:
            state = self.progress.state.convergence
            assert state is not None
            reason = convergence_stop(
                state.ensemble, self.options.patience, self.options.max_epochs
            )
            if reason is not None:
                break
            with self.step():
                self._train(phase, state)
        for index in state.members:
            self.training.ensemble.members[index].set_weights(self.progress.best_weights[index])
        log.info(
            "%s: %s; best force MAE %.4f eV/A",
            phase,
            reason,
            mean([each.best for each in state.each]),
        )

    def _begin(self, members: Sequence[int]) -> None:
        starting = []
        for index in members:
            member = self.training.ensemble.members[index]
            member.fresh_optimizer(scheduler=True)
            # The weights it starts from are the first candidate for "best".
            starting.append(BestError(best=member.validate().mae_forces))
            self.progress.best_weights[index] = member.weights()
        ensemble = BestError(best=mean([each.best for each in starting]))
        self.progress.update(
            convergence=ConvergenceState(tuple(members), ensemble, tuple(starting))
        )

    def _train(self, phase: str, state: ConvergenceState) -> None:
        options, before = self.options, state.ensemble.epoch
        n_epochs = min(options.epochs_per_round, options.max_epochs - before)
        result = self.training.train(phase, before, n_epochs, state.members)
        epoch = before + n_epochs
        each = []
        for index, history, mae in zip(state.members, state.each, result.maes, strict=True):
            if improves(history.best, mae, options.margin):
                weights = self.training.ensemble.members[index].weights()
                self.progress.best_weights[index] = weights
            each.append(with_error(history, mae, epoch, options.margin))
        ensemble = with_error(state.ensemble, result.mae, epoch, options.margin)
        self.progress.update(convergence=ConvergenceState(state.members, ensemble, tuple(each)))
        log.info(
            "%s: epoch %d of at most %d, force MAE %.4f eV/A (best %.4f, %d epochs ago); %s",
            phase,
            epoch,
            options.max_epochs,
            result.mae,
            ensemble.best,
            ensemble.epochs_without_improvement,
            result.message,
        )
