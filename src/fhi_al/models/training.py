"""Train members for a number of epochs, one batch per call.

The loop is handed a pool and does not know where it runs.

A member's training depends on that member alone, so any pool gives the same weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from typing import Protocol

from fhi_al.models.ensemble import Ensemble
from fhi_al.models.interface import EpochRecord
from fhi_al.models.member import Member


def nothing() -> None:
    """What there is to do meanwhile by default."""


class RemoteWork(Protocol):
    """Epochs of members on other ranks."""

    @property
    def is_done(self) -> bool:
        """Whether all results are there."""
        ...

    def step(self) -> None:
        """Take the results that have arrived; raise what has failed."""
        ...

    def wait(self) -> None:
        """Sleep a little."""
        ...

    def load(self) -> list[EpochRecord]:
        """Give the members their new states; what became of each epoch."""
        ...

    def stop(self) -> None:
        """Let every rank stop, and wait until it is free for the next command."""
        ...


class TrainingRound:
    """Members being trained for some epochs; it goes on only while :meth:`advance` is called.

    Until it is finished the members predict as before it, and their labels and states must not
    be touched (RuntimeError).

    Parameters
    ----------
    members : sequence of Member
        All, in the order of the records.
    here : LocalWork
        Of those trained in this process.
    away : RemoteWork, optional
        Of the others.

    Attributes
    ----------
    is_finished : bool
        All members are trained and hold their new states, or the round was given up.
    """

    def __init__(
        self, members: Sequence[Member], here: LocalWork, away: RemoteWork | None = None
    ) -> None:
        self._members = list(members)
        self._here = here
        self._away = away
        self._records: list[EpochRecord] = []
        self.is_finished = False
        for member in self._members:
            member.begin_round()

    @property
    def is_idle(self) -> bool:
        """Nothing left to do in this process at the moment: sleep a little between looks."""
        return self._away is not None and self._here.is_done and not self.is_finished

    def advance(self) -> bool:
        """Do a little more: one batch, or one validation; take what other ranks have sent.

        Returns
        -------
        bool
            False when all is finished, True if this must be called again.

        Raises
        ------
        EngineError
            If the training has failed on another rank; the training round is given up then.
        """
        if self.is_finished:
            return False
        try:
            self._here.step()
            if self._away is not None:
                self._away.step()
        except Exception:
            self.give_up()
            raise
        if self._here.is_done and (self._away is None or self._away.is_done):
            self._end()
        return not self.is_finished

    def _end(self) -> None:
        """Take everything over at once: nothing depends on which rank was the first."""
        for member in self._members:
            member.end_round()
        records = self._here.records + ([] if self._away is None else self._away.load())
        place = {member.index: place for place, member in enumerate(self._members)}
        self._records = sorted(records, key=lambda r: (r.epoch, place[r.member]))
        self.is_finished = True

    def finish(self, meanwhile: Callable[[], None] = nothing) -> list[EpochRecord]:
        """Advance to the end.

        Parameters
        ----------
        meanwhile
            Called after every batch.  If it raises, the training round is given up.

        Returns
        -------
        list of EpochRecord
            Sorted by epoch, then as in `members`; the last epoch is always validated.
        """
        try:
            while self.advance():
                meanwhile()
                if self.is_idle and self._away is not None:
                    self._away.wait()
        except Exception:
            self.give_up()
            raise
        return self._records

    def give_up(self) -> None:
        """Stop here, if the training round is not finished.

        The members are neither as before nor as after it, and count as being trained: their states
        cannot be saved.  ``end_round()`` and ``load_state()`` make them usable again.
        """
        if self.is_finished:
            return
        self._here.stop()
        if self._away is not None:
            self._away.stop()
        self.is_finished = True


class TrainingPool(Protocol):
    """Trains members, here or elsewhere.  One training round at a time."""

    def begin(self, members: Sequence[int], n_epochs: int) -> TrainingRound:
        """Begin to train members, by index, for `n_epochs` epochs each."""
        ...

    def busy_seconds(self) -> dict[int, float]:
        """Rank -> seconds it has spent training in this launch."""
        ...

    def close(self) -> None:
        """Give up a training round that is under way: every rank is free for the next command.

        See :meth:`TrainingRound.give_up` for what becomes of its members.
        """
        ...


class SerialTrainingPool:
    """Trains members in this process, in turn.

    Parameters
    ----------
    ensemble : Ensemble
    valid_skip : int
        Epochs between validations, counted from the beginning of a member's training.
    """

    def __init__(self, ensemble: Ensemble, valid_skip: int) -> None:
        self._ensemble = ensemble
        self._valid_skip = valid_skip
        self._training_round: TrainingRound | None = None
        self._busy_s = 0.0

    def begin(self, members: Sequence[int], n_epochs: int) -> TrainingRound:
        """See :meth:`TrainingPool.begin`."""
        chosen = [self._ensemble.members[index] for index in members]
        work = LocalWork(chosen, n_epochs, self._valid_skip, self._worked)
        self._training_round = TrainingRound(chosen, work)
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


class LocalWork:
    """Epochs of members in this process, one batch at a time.

    Parameters
    ----------
    members : sequence of Member
    n_epochs, valid_skip : int
    worked : callable
        Called with the seconds that each batch has taken.

    Attributes
    ----------
    records : list of EpochRecord
        So far, epoch by epoch.
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


def whole_epoch(member: Member) -> float:
    """Train a member for one epoch without pausing; its mean loss."""
    epoch = member.train_epoch()
    while True:
        try:
            next(epoch)
        except StopIteration as end:
            return float(end.value)


def _batches_and_epochs(
    members: Sequence[Member], n_epochs: int, valid_skip: int
) -> Generator[EpochRecord | None, None, None]:
    """Train members, epoch by epoch; None after every batch, a record after every epoch.

    Batch by batch in turn: a GPU takes the steps of several members at the same time.
    """
    for epoch in range(1, n_epochs + 1):
        last = epoch == n_epochs
        yield from _in_turn([_one_epoch(one, epoch, valid_skip, last) for one in members])


def _in_turn(
    epochs: list[Generator[EpochRecord | None, None, None]],
) -> Generator[EpochRecord | None, None, None]:
    """What each gives next, then again, until all have ended; if this is closed, all are."""
    try:
        while epochs:
            for epoch in list(epochs):
                try:
                    yield next(epoch)
                except StopIteration:
                    epochs.remove(epoch)
    finally:
        for epoch in epochs:
            epoch.close()


def _one_epoch(
    member: Member, epoch: int, valid_skip: int, last: bool
) -> Generator[EpochRecord | None, None, None]:
    learning_rate = member.learning_rate
    loss = yield from member.train_epoch()
    due = last or member.epochs % valid_skip == 0
    if due:
        member.fit_atomic_energies()
    errors = member.validate() if due else None
    member.scheduler_step(None if errors is None else errors.mae_forces)
    yield EpochRecord(member.index, epoch, learning_rate, loss, errors)
