"""Train members for a number of epochs, in bits.  The loop is handed a pool and does not know
where it runs.

A member's training depends on that member alone, so any pool gives the same weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from fhi_al.models.ensemble import Ensemble
from fhi_al.models.mace.training import ForceErrors
from fhi_al.models.member import Member


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of one member.

    Parameters
    ----------
    member : int
    epoch : int
        Counted from 1 in each visit.
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


def nothing() -> None:
    """What there is to do meanwhile, unless told otherwise."""


class TrainingRound(Protocol):
    """Members being trained for some epochs; it goes on only while :meth:`advance` is called.

    Until it is finished the members predict as before it, and their labels and states must not
    be touched (RuntimeError).
    """

    @property
    def is_finished(self) -> bool:
        """Whether all members are trained and hold their new states."""
        ...

    @property
    def is_idle(self) -> bool:
        """Nothing left to do on this rank at the moment: sleep a little between looks."""
        ...

    def advance(self) -> bool:
        """Do a little more: one batch, or one validation; take what other ranks have sent.

        Returns
        -------
        bool
            False when all is finished, True if this must be called again.
        """
        ...

    def finish(self, meanwhile: Callable[[], None] = nothing) -> list[EpochRecord]:
        """Advance to the end.

        Parameters
        ----------
        meanwhile
            Called after every bit.  If it raises, the visit is given up.

        Returns
        -------
        list of EpochRecord
            Sorted by epoch, then as in `members`; the last epoch is always validated.
        """
        ...


class TrainingPool(Protocol):
    """Trains members, here or elsewhere.  One visit at a time."""

    def begin(self, members: Sequence[int], n_epochs: int) -> TrainingRound:
        """Begin to train members, by index, for `n_epochs` epochs each."""
        ...

    def busy_seconds(self) -> dict[int, float]:
        """Rank -> seconds it has spent training in this launch."""
        ...

    def close(self) -> None:
        """Give up a visit that is under way, so that every rank is free for the next command.

        See :meth:`SerialRound.give_up` for what becomes of its members.
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
        self._training_round: SerialRound | None = None
        self._busy_s = 0.0

    def begin(self, members: Sequence[int], n_epochs: int) -> SerialRound:
        """See :meth:`TrainingPool.begin`."""
        chosen = [self._ensemble.members[index] for index in members]
        self._training_round = SerialRound(chosen, n_epochs, self._valid_skip, self._worked)
        return self._training_round

    def busy_seconds(self) -> dict[int, float]:
        """See :meth:`TrainingPool.busy_seconds`."""
        return {0: self._busy_s}

    def close(self) -> None:
        """See :meth:`TrainingPool.close`."""
        if self._training_round is not None:
            self._training_round.give_up()

    def _worked(self, seconds: float) -> None:
        self._busy_s += seconds


class SerialRound:
    """Members trained in this process.

    Parameters
    ----------
    members : sequence of Member
    n_epochs, valid_skip : int
    worked : callable
        Told the seconds that each bit has taken.
    """

    def __init__(
        self,
        members: Sequence[Member],
        n_epochs: int,
        valid_skip: int,
        worked: Callable[[float], None],
    ) -> None:
        self._members = list(members)
        self._work = LocalWork(members, n_epochs, valid_skip, worked)
        self.is_finished = False
        self.is_idle = False
        for member in self._members:
            member.begin_round()

    def advance(self) -> bool:
        """See :meth:`TrainingRound.advance`."""
        if self.is_finished:
            return False
        try:
            more = self._work.step()
        except Exception:
            self.give_up()
            raise
        if not more:
            for member in self._members:
                member.end_round()
            self.is_finished = True
        return more

    def finish(self, meanwhile: Callable[[], None] = nothing) -> list[EpochRecord]:
        """See :meth:`TrainingRound.finish`."""
        try:
            while self.advance():
                meanwhile()
        except Exception:
            self.give_up()
            raise
        return self._work.records

    def give_up(self) -> None:
        """Stop here, if the visit is not finished.

        The members are neither as before nor as after the visit, and count as being trained:
        their states cannot be saved.  ``end_round()`` and ``load_state()`` make them usable again.
        """
        self._work.stop()
        self.is_finished = True


class LocalWork:
    """Epochs of members in this process, a bit at a time.

    Parameters
    ----------
    members : sequence of Member
    n_epochs, valid_skip : int
    worked : callable
        Told the seconds that each bit has taken.

    Attributes
    ----------
    records : list of EpochRecord
        So far; epoch by epoch, the members in their order.
    is_done : bool
    """

    def __init__(
        self,
        members: Sequence[Member],
        n_epochs: int,
        valid_skip: int,
        worked: Callable[[float], None],
    ) -> None:
        self.records: list[EpochRecord] = []
        self.is_done = not members
        self._worked = worked
        self._steps = _batches_and_epochs(members, n_epochs, valid_skip)

    def step(self) -> bool:
        """Do one batch or one validation; False when there was nothing left to do."""
        if self.is_done:
            return False
        started = time.monotonic()
        try:
            record = next(self._steps)
        except StopIteration:
            self.is_done = True
            return False
        finally:
            self._worked(time.monotonic() - started)
        if record is not None:
            self.records.append(record)
        return True

    def stop(self) -> None:
        """Do no more."""
        self._steps.close()
        self.is_done = True


def _batches_and_epochs(
    members: Sequence[Member], n_epochs: int, valid_skip: int
) -> Generator[EpochRecord | None, None, None]:
    """Train members in turn, epoch by epoch; None after every batch, a record after every epoch."""
    for epoch in range(1, n_epochs + 1):
        for member in members:
            yield from _one_epoch(member, epoch, valid_skip, last=epoch == n_epochs)


def _one_epoch(
    member: Member, epoch: int, valid_skip: int, last: bool
) -> Generator[EpochRecord | None, None, None]:
    learning_rate = member.learning_rate
    loss = yield from member.train_epoch()
    due = last or member.epochs % valid_skip == 0
    errors = member.validate() if due else None
    member.scheduler_step(None if errors is None else errors.mae_forces)
    yield EpochRecord(member.index, epoch, learning_rate, loss, errors)
