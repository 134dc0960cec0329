"""Training visits: begun, finished, journalled; members whose training diverged are undone."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fhi_al.active_learning.errors import TrainingFailure
from fhi_al.active_learning.run import Background, Run
from fhi_al.models.mace.training import ForceErrors
from fhi_al.models.training import EpochRecord
from fhi_al.report import clock
from fhi_al.report.error_table import error_summary, mean

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RoundResult:
    """What a training visit gave.

    Parameters
    ----------
    maes : list of float
        Validation force MAE of each member, in eV/A.
    loss : float
        Mean training loss of the members in the last epoch.
    words : str
        Loss and errors for the log.
    """

    maes: list[float]
    loss: float
    words: str

    @property
    def mae(self) -> float:
        """Mean validation force MAE of the members, in eV/A.

        Each on its own validation set, which it has not trained on: to be compared with a target
        or with earlier rounds on the same sets, never one member with another (see
        :mod:`fhi_al.active_learning.comparison`).
        """
        return mean(self.maes)


def train(run: Run, phase: str, epoch: int, n_epochs: int, members: Sequence[int]) -> RoundResult:
    """Train members, journal every epoch, and return their last validation errors.

    A member whose loss, weights or validation error are no longer finite goes back to the
    weights it had, with a fresh optimizer.

    Parameters
    ----------
    phase : str
        Name under which the epochs are journalled.
    epoch : int
        Epochs trained in this phase before.
    n_epochs : int
    members : sequence of int

    Returns
    -------
    Visit

    Raises
    ------
    TrainingFailure
        If fewer than two members of the ensemble are healthy.
    """
    return finish(run, phase, epoch, begin(run, members, n_epochs))


def begin(
    run: Run, members: Sequence[int], n_epochs: int, *, in_background: bool = False
) -> Background:
    """Begin a visit; one in the background advances when there is nothing better to do."""
    with run.clock.section(clock.TRAINING):
        weights = {index: run.ensemble.members[index].weights() for index in members}
        states = run.ensemble.state_bytes() if in_background else {}
        training = run.training.begin(members, n_epochs)
    return Background(training, tuple(members), n_epochs, weights, states)


def finish(run: Run, phase: str, epoch: int, training_round: Background) -> RoundResult:
    """The rest of :func:`train`, for a visit that was begun.

    Raises
    ------
    TrainingFailure
        As :func:`train`.
    EngineError, OSError
        If another rank cannot train, or labels go wrong meanwhile.
    """
    members, n_epochs = training_round.members, training_round.n_epochs
    with run.clock.section(clock.TRAINING):
        records = training_round.training.finish(meanwhile=run.labels.pump)
        failures = list(run.state.training_failures_in_row or [0] * len(run.ensemble))
        for index in members:
            diverged = _undo_if_diverged(run, index, training_round.weights[index], records)
            failures[index] = failures[index] + 1 if diverged else 0
        run.state = replace(run.state, training_failures_in_row=tuple(failures))
        _require_an_ensemble(run, failures)
        errors = [run.ensemble.members[index].validate() for index in members]
    _journal_epochs(run, phase, epoch, records)
    loss = mean([record.loss for record in records if record.epoch == n_epochs])
    result = RoundResult([e.mae_forces for e in errors], loss, _describe(run, loss, errors))
    run.journal.add(
        "ensemble",
        phase=phase,
        epoch=epoch + n_epochs,
        n_training=len(run.ensemble.members[0].training),
        n_validation=len(run.ensemble.members[0].validation),
        training_loss=loss,
        mae_forces=result.mae,
    )
    return result


def _undo_if_diverged(
    run: Run, index: int, weights: dict[str, Any], records: Sequence[EpochRecord]
) -> bool:
    member = run.ensemble.members[index]
    losses = [record.loss for record in records if record.member == index]
    if (
        all(map(math.isfinite, losses))
        and member.is_finite()
        and math.isfinite(member.validate().mae_forces)
    ):
        return False
    member.set_weights(weights)
    member.fresh_optimizer(scheduler=member.has_scheduler)
    log.warning(
        "member %d: training diverged (losses %s); back to the weights before, with a fresh "
        "optimizer. If this goes on, lower TRAINING.lr",
        index,
        ", ".join(f"{loss:.3g}" for loss in losses),
    )
    return True


def _require_an_ensemble(run: Run, failures_in_row: Sequence[int]) -> None:
    limit = run.settings.al.max_training_failures
    diverged = [index for index, failures in enumerate(failures_in_row) if failures >= limit]
    if len(failures_in_row) - len(diverged) < 2:
        raise TrainingFailure(
            f"training: members {', '.join(map(str, diverged))} diverged in {limit} visits in a "
            "row (max_training_failures), fewer than two healthy ones are left: expected losses "
            "and weights that stay finite. Lower TRAINING.lr or set TRAINING.clip_grad (both "
            "may change in this folder), look at the largest forces in the labels, then run "
            "again."
        )


def _describe(run: Run, loss: float, errors: Sequence[ForceErrors]) -> str:
    """Loss and errors, averaged over the members, as MISC.error_table wants them."""
    assert run.settings.mace is not None
    n_atoms = max(len(system) for system in run.systems)
    return f"loss {loss:.4g}, " + error_summary(run.settings.mace.misc.error_table, errors, n_atoms)


def _journal_epochs(run: Run, phase: str, epoch: int, records: Sequence[EpochRecord]) -> None:
    for record in records:
        member = run.ensemble.members[record.member]
        errors = record.errors
        run.journal.add(
            "epoch",
            phase=phase,
            member=member.index,
            member_name=run.export.member_name(member.index),
            epoch=epoch + record.epoch,
            n_training=len(member.training),
            n_validation=len(member.validation),
            learning_rate=record.learning_rate,
            training_loss=record.loss,
            validation_loss=errors.loss if errors else None,
            mae_forces=errors.mae_forces if errors else None,
            rmse_forces=errors.rmse_forces if errors else None,
            mae_energy_per_atom=errors.mae_energy_per_atom if errors else None,
            rmse_energy_per_atom=errors.rmse_energy_per_atom if errors else None,
        )
