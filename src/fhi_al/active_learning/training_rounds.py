"""Training rounds: begun, finished, journalled; members whose training diverged are undone."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fhi_al.active_learning.errors import TrainingFailure
from fhi_al.active_learning.progress import Progress
from fhi_al.active_learning.round_result import RoundResult
from fhi_al.active_learning.unseen import unseen_errors, unseen_labels
from fhi_al.core.convergence import UnseenErrors
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.interface import EpochRecord, ValidationErrors
from fhi_al.models.training import TrainingPool, TrainingRound
from fhi_al.report import clock
from fhi_al.report.clock import Clock
from fhi_al.report.error_table import ErrorTable, error_summary, mean, mean_of_known
from fhi_al.report.journal import Journal

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingOptions:
    """What training rounds go by.

    Parameters
    ----------
    max_failures_in_row : int
        Rounds in a row that diverged, after which a member counts as diverged for good.
    error_table : {"PerAtomRMSE", "TotalRMSE", "PerAtomMAE", "TotalMAE"}
        How errors are logged.
    n_atoms : int
        Of the largest system, for errors of total energies.
    member_names : tuple of str
        For the tables.
    worst_of : tuple of int
        Systems the worst of which is to reach the target; empty: the error over all points is.
    """

    max_failures_in_row: int
    error_table: ErrorTable
    n_atoms: int
    member_names: tuple[str, ...]
    worst_of: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class RunningRound:
    """A training round under way.

    Parameters
    ----------
    training : TrainingRound
    members : tuple of int
    n_epochs : int
    weights : dict
        Member -> its weights before the round, to go back to if it diverges.
    states : dict
        In the background: files of the members' states before the round, which is what a snapshot
        holds meanwhile; a resumed run begins the round again.
    """

    training: TrainingRound
    members: tuple[int, ...]
    n_epochs: int
    weights: dict[int, dict[str, Any]]
    states: dict[str, bytes]


class TrainingRounds:
    """Trains the members of an ensemble, a round of some epochs at a time.

    Parameters
    ----------
    ensemble : Ensemble
    pool : TrainingPool
        Where the members are trained.
    progress : Progress
        Its ``training_failures_in_row`` are kept here.
    journal, clock : Journal, Clock
    options : TrainingOptions
    meanwhile : callable
        Called after every bit of training.

    Attributes
    ----------
    background : RunningRound or None
        The round under way beside the sampling of the initial dataset.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        pool: TrainingPool,
        progress: Progress,
        journal: Journal,
        clock: Clock,
        options: TrainingOptions,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        self.ensemble = ensemble
        self.background: RunningRound | None = None
        self._pool = pool
        self._progress = progress
        self._journal = journal
        self._clock = clock
        self._options = options
        self._meanwhile = meanwhile

    def train(
        self,
        phase: str,
        epoch: int,
        n_epochs: int,
        members: Sequence[int],
        *,
        tolerates_divergence: bool = False,
    ) -> RoundResult:
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
        tolerates_divergence : bool
            A member that diverges does not count as one that cannot be trained.

        Raises
        ------
        TrainingFailure
            If fewer than two members of the ensemble are left that do not diverge.
        """
        running = self.begin(members, n_epochs)
        return self.finish(phase, epoch, running, tolerates_divergence=tolerates_divergence)

    def unseen_errors(self, phase: str, epoch: int | None, index: int) -> UnseenErrors:
        """Errors of a member on labels that it has not trained on, with the weights as they are.

        Journalled, at an epoch of a convergence or at none.
        """
        members = self.ensemble.members
        with self._clock.section(clock.TRAINING):
            labels = unseen_labels(members[index], members, self._progress.state.test)
            found = unseen_errors(members[index], labels)
        self._journal.add("unseen", phase=phase, epoch=epoch, member=index, **asdict(found))
        return found

    def begin(
        self, members: Sequence[int], n_epochs: int, *, in_background: bool = False
    ) -> RunningRound:
        """Begin a round; one in the background advances when there is nothing better to do."""
        with self._clock.section(clock.TRAINING):
            weights = {index: self.ensemble.members[index].weights() for index in members}
            states = self.ensemble.state_bytes() if in_background else {}
            training = self._pool.begin(members, n_epochs)
        return RunningRound(training, tuple(members), n_epochs, weights, states)

    def advance_background(self) -> bool:
        """A little of the round in the background; False if there is nothing for this rank."""
        if self.background is None or self.background.training.is_finished:
            return False
        with self._clock.section(clock.TRAINING):
            self.background.training.advance()
        return not self.background.training.is_idle

    def member_states(self) -> dict[str, bytes]:
        """Files of the members' training states, as a snapshot is to hold them."""
        return self.background.states if self.background else self.ensemble.state_bytes()

    def finish(
        self,
        phase: str,
        epoch: int,
        running: RunningRound,
        *,
        tolerates_divergence: bool = False,
    ) -> RoundResult:
        """The rest of :meth:`train`, for a round that was begun.

        Raises
        ------
        TrainingFailure
            As :meth:`train`.
        EngineError, OSError
            If another rank cannot train, or labels go wrong meanwhile.
        """
        members, n_epochs = running.members, running.n_epochs
        before = self._progress.state.training_failures_in_row
        with self._clock.section(clock.TRAINING):
            records = running.training.finish(meanwhile=self._meanwhile)
            failures = list(before or [0] * len(self.ensemble))
            diverged = tuple(
                index
                for index in members
                if self._undo_if_diverged(index, running.weights[index], records)
            )
            if not tolerates_divergence:
                for index in members:
                    failures[index] = failures[index] + 1 if index in diverged else 0
                self._progress.update(training_failures_in_row=tuple(failures))
                self._require_an_ensemble(failures)
            errors = [self.ensemble.members[index].validate() for index in members]
        self._journal_epochs(phase, epoch, records)
        loss = mean([record.loss for record in records if record.epoch == n_epochs])
        message, worst_of = self._describe(loss, errors), self._options.worst_of
        result = RoundResult(errors, loss, message, diverged, worst_of)
        self._journal.add(
            "ensemble",
            phase=phase,
            epoch=epoch + n_epochs,
            n_training=len(self.ensemble.members[0].training),
            n_validation=len(self.ensemble.members[0].validation),
            training_loss=loss,
            mae_forces=result.mae,
            mae_stress=mean_of_known([each.mae_stress for each in errors]),
            by_system=[asdict(each) for each in result.by_system],
        )
        return result

    def _undo_if_diverged(
        self, index: int, weights: dict[str, Any], records: Sequence[EpochRecord]
    ) -> bool:
        member = self.ensemble.members[index]
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

    def _require_an_ensemble(self, failures_in_row: Sequence[int]) -> None:
        limit = self._options.max_failures_in_row
        diverged = [index for index, failures in enumerate(failures_in_row) if failures >= limit]
        if len(failures_in_row) - len(diverged) < 2:
            raise TrainingFailure(
                f"training: members {', '.join(map(str, diverged))} diverged in {limit} training "
                "rounds in a row (max_training_failures), fewer than two others are left: expected "
                "losses and weights that stay finite. Lower TRAINING.lr or set TRAINING.clip_grad "
                "(both may change in this folder), check the largest forces in the labels, then "
                "run again."
            )

    def _describe(self, loss: float, errors: Sequence[ValidationErrors]) -> str:
        """Loss and errors, averaged over the members, as MISC.error_table wants them."""
        table, n_atoms = self._options.error_table, self._options.n_atoms
        return f"loss {loss:.4g}, " + error_summary(table, errors, n_atoms)

    def _journal_epochs(self, phase: str, epoch: int, records: Sequence[EpochRecord]) -> None:
        for record in records:
            member = self.ensemble.members[record.member]
            errors = record.errors
            self._journal.add(
                "epoch",
                phase=phase,
                member=member.index,
                member_name=self._options.member_names[member.index],
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
                mae_stress=errors.mae_stress if errors else None,
                rmse_stress=errors.rmse_stress if errors else None,
            )
