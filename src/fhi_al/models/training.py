"""Train members for a number of epochs.  The loop is handed a pool and does not know where it runs.

A member's training depends on that member alone, so any pool gives the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fhi_al.models.ensemble import Ensemble
from fhi_al.models.mace_adapter.training import ForceErrors
from fhi_al.models.member import Member


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of one member.

    Parameters
    ----------
    member : int
    epoch : int
        Counted from 1 in each call of :meth:`TrainingPool.train`.
    learning_rate : float
        With which the epoch was trained.
    loss : float
        Mean training loss per structure; NaN if the training blew up.
    errors : ForceErrors or None
        Of the validation, None if this epoch was not validated.
    """

    member: int
    epoch: int
    learning_rate: float
    loss: float
    errors: ForceErrors | None


class TrainingPool(Protocol):
    """Trains members, here or elsewhere."""

    def train(
        self,
        members: Sequence[int],
        n_epochs: int,
        progress: Callable[[EpochRecord], None] | None = None,
    ) -> list[EpochRecord]:
        """Train members for `n_epochs` epochs each.

        Parameters
        ----------
        members
            Indices.
        n_epochs
            Number of epochs for each.
        progress
            Called with every record as it comes.

        Returns
        -------
        list of EpochRecord
            Sorted by epoch, then as in `members`; the last epoch is always validated.
        """
        ...


class SerialTrainingPool:
    """Trains one member after the other in this process.

    Parameters
    ----------
    ensemble : Ensemble
    valid_skip : int
        Epochs between validations, counted from the beginning of a member's training.
    """

    def __init__(self, ensemble: Ensemble, valid_skip: int) -> None:
        self._ensemble = ensemble
        self._valid_skip = valid_skip

    def train(
        self,
        members: Sequence[int],
        n_epochs: int,
        progress: Callable[[EpochRecord], None] | None = None,
    ) -> list[EpochRecord]:
        """See :meth:`TrainingPool.train`."""
        records = []
        for epoch in range(1, n_epochs + 1):
            for index in members:
                member = self._ensemble.members[index]
                record = train_one_epoch(member, epoch, self._valid_skip, last=epoch == n_epochs)
                records.append(record)
                if progress is not None:
                    progress(record)
        return records


def train_one_epoch(member: Member, epoch: int, valid_skip: int, last: bool) -> EpochRecord:
    """One epoch with its validation, if one is due, and its step of the learning-rate scheduler."""
    learning_rate = member.learning_rate
    loss = member.train_epoch()
    due = last or member.epochs % valid_skip == 0
    errors = member.validate() if due else None
    member.scheduler_step(None if errors is None else errors.mae_forces)
    return EpochRecord(member.index, epoch, learning_rate, loss, errors)
