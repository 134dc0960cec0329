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
        Epochs this member has been trained since the beginning, this one included.
    loss : float
        Mean training loss per structure; NaN if the training blew up.
    errors : ForceErrors or None
        Of the validation, None if this epoch was not validated.
    """

    member: int
    epoch: int
    loss: float
    errors: ForceErrors | None


class TrainingPool(Protocol):
    """Trains members, here or elsewhere."""

    def train(
        self,
        epochs: int,
        valid_skip: int,
        members: Sequence[int] | None = None,
        progress: Callable[[EpochRecord], None] | None = None,
    ) -> list[EpochRecord]:
        """Train members for `epochs` epochs each.

        Parameters
        ----------
        epochs
            Number of epochs for each member.
        valid_skip
            Epochs between validations, counted since the beginning; the last epoch of the call is
            always validated.
        members
            Indices; None for all.
        progress
            Called with every record as it comes.

        Returns
        -------
        list of EpochRecord
            Sorted by epoch of this call, then member.
        """
        ...


class SerialTrainingPool:
    """Trains one member after the other in this process.

    Parameters
    ----------
    ensemble : Ensemble
    """

    def __init__(self, ensemble: Ensemble) -> None:
        self._ensemble = ensemble

    def train(
        self,
        epochs: int,
        valid_skip: int,
        members: Sequence[int] | None = None,
        progress: Callable[[EpochRecord], None] | None = None,
    ) -> list[EpochRecord]:
        """See :meth:`TrainingPool.train`."""
        chosen = range(len(self._ensemble)) if members is None else members
        records = []
        for epoch in range(1, epochs + 1):
            for index in chosen:
                member = self._ensemble.members[index]
                record = train_one_epoch(member, valid_skip, last=epoch == epochs)
                records.append(record)
                if progress is not None:
                    progress(record)
        return records


def train_one_epoch(member: Member, valid_skip: int, last: bool) -> EpochRecord:
    """One epoch with its validation, if one is due, and its step of the learning-rate scheduler."""
    loss = member.train_epoch()
    due = last or member.epochs % valid_skip == 0
    errors = member.validate() if due else None
    member.scheduler_step(None if errors is None else errors.mae_forces)
    return EpochRecord(member.index, member.epochs, loss, errors)
