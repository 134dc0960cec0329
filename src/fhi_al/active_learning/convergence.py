"""Train without new points until the validation error stops falling; keep the best weights."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from fhi_al.active_learning import training_rounds
from fhi_al.active_learning.run import Run
from fhi_al.core.improvement import BestError, improves, seen
from fhi_al.core.run_state import ConvergenceState
from fhi_al.core.stopping import convergence_stop
from fhi_al.report.error_table import mean

log = logging.getLogger(__name__)


def converge(run: Run, phase: str, members: Sequence[int]) -> None:
    """Converge members on their own sets, from a fresh optimizer with the LR scheduler on.

    Each member ends with the weights of its own lowest validation force MAE; the mean over the
    members decides when to stop.

    Parameters
    ----------
    run : Run
        Its ``state.convergence`` is where an interrupted convergence goes on.
    phase : str
        Name under which the epochs are journalled.
    members : sequence of int
        Members to train.
    """
    al = run.settings.al
    if run.state.convergence is None:
        _begin(run, members)
    while True:
        state = run.state.convergence
        assert state is not None
        reason = convergence_stop(state.ensemble, al.patience, al.max_final_epochs)
        if reason is not None:
            break
        with run.step():
            _training_round(run, phase, state)
    for index in state.members:
        run.ensemble.members[index].set_weights(run.best_weights[index])
    log.info(
        "%s: %s; best force MAE %.4f eV/A", phase, reason, mean([each.best for each in state.each])
    )


def _begin(run: Run, members: Sequence[int]) -> None:
    starting = []
    for index in members:
        member = run.ensemble.members[index]
        member.fresh_optimizer(scheduler=True)
        # The weights it starts from are the first candidate for "best".
        starting.append(BestError(best=member.validate().mae_forces))
        run.best_weights[index] = member.weights()
    ensemble = BestError(best=mean([each.best for each in starting]))
    run.state = replace(
        run.state, convergence=ConvergenceState(tuple(members), ensemble, tuple(starting))
    )


def _training_round(run: Run, phase: str, state: ConvergenceState) -> None:
    al = run.settings.al
    epochs = min(al.valid_skip, al.max_final_epochs - state.ensemble.epoch)
    training_round = training_rounds.train(run, phase, state.ensemble.epoch, epochs, state.members)
    epoch = state.ensemble.epoch + epochs
    each = []
    for index, history, mae in zip(state.members, state.each, training_round.maes, strict=True):
        if improves(history.best, mae, al.margin):
            run.best_weights[index] = run.ensemble.members[index].weights()
        each.append(seen(history, mae, epoch, al.margin))
    ensemble = seen(state.ensemble, training_round.mae, epoch, al.margin)
    run.state = replace(
        run.state, convergence=ConvergenceState(state.members, ensemble, tuple(each))
    )
    log.info(
        "%s: epoch %d of at most %d, force MAE %.4f eV/A (best %.4f, %d epochs ago); %s",
        phase,
        epoch,
        al.max_final_epochs,
        training_round.mae,
        ensemble.best,
        ensemble.epochs_without_improvement,
        training_round.words,
    )
