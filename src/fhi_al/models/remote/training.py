"""Train members on several ranks at the same time; rank 0 holds them all before and after."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mpi4py import MPI

from fhi_al.core.errors import EngineError
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.member import Member
from fhi_al.models.remote.link import TrainingLink
from fhi_al.models.remote.messages import SETUP, TRAIN, TrainingAnswer, TrainingSetup
from fhi_al.models.training import EpochRecord, LocalWork, nothing
from fhi_al.parallel import mpi


class TrainingRankError(EngineError):
    """Training failed on another rank; the message says which and repeats its words."""


@dataclass(frozen=True)
class TrainingPlacement:
    """How another rank trains.

    Parameters
    ----------
    threads : int or None
        Of torch; None for ``MISC.num_threads``.
    local_index : int
        Which of the training ranks on its host it is, counted from 0: chooses its GPU.
    """

    threads: int | None = None
    local_index: int = 0


class RemoteTrainingPool:
    """On rank 0: deals members out over ranks, which train at the same time.

    Parameters
    ----------
    ensemble : Ensemble
        With all members; it has their new states when a visit is finished.
    valid_skip : int
        Epochs between validations, counted from the beginning of a member's training.
    comm : communicator
        The private one; the other ranks serve it with a `TrainingRank`.
    ranks : sequence of int
        Member k is trained on ``ranks[k % len(ranks)]``; 0 may be among them.
    placements : mapping of int to TrainingPlace, optional
        By rank.  Rank 0 trains as its ensemble was made.

    Attributes
    ----------
    n_set_ups : int
        Goes up when a rank is set up, and has forgotten what it was sent before.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        valid_skip: int,
        comm: MPI.Intracomm,
        ranks: Sequence[int],
        placements: Mapping[int, TrainingPlacement] | None = None,
    ) -> None:
        if not ranks:
            raise ValueError("training needs at least one rank")
        self._ensemble = ensemble
        self._valid_skip = valid_skip
        self._comm = comm
        self._ranks = tuple(ranks)
        self._rounds = 0
        self.n_set_ups = 0
        self._training_round: RemoteRound | None = None
        self._busy_s = dict.fromkeys(self._ranks, 0.0)
        self._links = {
            rank: TrainingLink(self._setup(rank, (placements or {}).get(rank, TrainingPlacement())))
            for rank in self._busy_s
            if rank != 0
        }

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks that train, in the order in which members are dealt out."""
        return self._ranks

    @property
    def is_under_way(self) -> bool:
        """Whether a visit is: the other ranks are busy."""
        return self._training_round is not None and not self._training_round.is_finished

    def set_up(self) -> None:
        """Let the other ranks import torch and build their members, and do not wait for it.

        The first visit does the same, and waits some 10 s.
        """
        for rank, link in self._links.items():
            if not link.is_set_up:
                mpi.tell(self._comm, [rank], SETUP, link.setup)
                link.is_set_up = True
                self.n_set_ups += 1

    def begin(self, members: Sequence[int], n_epochs: int) -> RemoteRound:
        """See :meth:`fhi_al.models.training.TrainingPool.begin`."""
        if self.is_under_way:
            raise RuntimeError("a training visit is under way: finish it before the next one")
        self.set_up()
        self._rounds += 1
        assigned: dict[int, list[Member]] = {}
        for index in members:
            assigned.setdefault(self._rank_of(index), []).append(self._ensemble.members[index])
        here = assigned.pop(0, [])
        mpi.tell_each(
            self._comm,
            {
                rank: (TRAIN, self._links[rank].order(self._rounds, theirs, n_epochs))
                for rank, theirs in assigned.items()
            },
        )
        self._training_round = RemoteRound(
            self._comm,
            self._rounds,
            [self._ensemble.members[index] for index in members],
            LocalWork(here, n_epochs, self._valid_skip, lambda s: self.worked(0, s)),
            {rank: RemoteMembers(self._links[rank], theirs) for rank, theirs in assigned.items()},
            self.worked,
        )
        return self._training_round

    def busy_seconds(self) -> dict[int, float]:
        """See :meth:`fhi_al.models.training.TrainingPool.busy_seconds`.

        Those of another rank grow when its answer arrives.
        """
        return dict(self._busy_s)

    def close(self) -> None:
        """See :meth:`fhi_al.models.training.TrainingPool.close`; waits for a batch or so."""
        if self._training_round is not None:
            self._training_round.give_up()

    def _rank_of(self, member: int) -> int:
        return self._ranks[member % len(self._ranks)]

    def _setup(self, rank: int, placement: TrainingPlacement) -> TrainingSetup:
        members = self._ensemble.members
        return TrainingSetup(
            settings=self._ensemble.factory.settings,
            elements=self._ensemble.factory.elements,
            seeds=tuple(member.seed for member in members),
            members=tuple(m.index for m in members if self._rank_of(m.index) == rank),
            valid_skip=self._valid_skip,
            threads=placement.threads,
            local_index=placement.local_index,
        )

    def worked(self, rank: int, seconds: float) -> None:
        """Count seconds that a rank has worked."""
        if rank in self._busy_s:
            self._busy_s[rank] += seconds


@dataclass(frozen=True)
class RemoteMembers:
    """Members that are being trained on another rank."""

    link: TrainingLink
    members: list[Member]


class RemoteRound:
    """Members being trained here and on other ranks; made by `SpreadTrainingPool.begin`.

    Parameters
    ----------
    comm : communicator
    number : int
        Of the visit, in this launch.
    members : list of Member
        All, in the order of the records.
    here : LocalWork
        Of those trained on this rank.
    away : dict of int to Away
        Rank -> what it trains.
    worked : callable
        Told (rank, seconds) of work done.
    """

    def __init__(
        self,
        comm: MPI.Intracomm,
        number: int,
        members: list[Member],
        here: LocalWork,
        away: dict[int, RemoteMembers],
        worked: Callable[[int, float], None],
    ) -> None:
        self._comm = comm
        self._number = number
        self._members = members
        self._here = here
        self._away = away
        self._worked = worked
        self._answers: dict[int, TrainingAnswer] = {}
        self._records: list[EpochRecord] = []
        self.is_finished = False
        for member in members:
            member.begin_round()

    @property
    def is_idle(self) -> bool:
        """See :attr:`fhi_al.models.training.TrainingRound.is_idle`."""
        return self._here.is_done and not self.is_finished

    def advance(self) -> bool:
        """See :meth:`fhi_al.models.training.TrainingRound.advance`.

        Raises
        ------
        TrainingRankError
            If the training has failed on another rank; the visit is given up then.
        """
        if self.is_finished:
            return False
        try:
            self._here.step()
            self._collect()
        except Exception:
            self.give_up()
            raise
        if self._here.is_done and len(self._answers) == len(self._away):
            self._load()
        return not self.is_finished

    def finish(self, meanwhile: Callable[[], None] = nothing) -> list[EpochRecord]:
        """See :meth:`fhi_al.models.training.TrainingRound.finish`."""
        nap = mpi.Nap()
        try:
            while self.advance():
                meanwhile()
                if self.is_idle:
                    nap.take()
        except Exception:
            self.give_up()
            raise
        return self._records

    def give_up(self) -> None:
        """Let every rank stop after its batch, and wait until it is free for the next command.

        See :meth:`fhi_al.models.training.SerialRound.give_up` for the members.
        """
        if self.is_finished:
            return
        self._here.stop()
        absent = self._away.keys() - self._answers.keys()
        notes = [self._comm.isend(self._number, dest=rank, tag=mpi.TRAINING_TAG) for rank in absent]
        nap = mpi.Nap()
        while absent - self._answers.keys() or not MPI.Request.Testall(notes):
            self._take_answers()
            nap.take()
        self.is_finished = True

    def _collect(self) -> None:
        self._take_answers()
        failed = {rank: a.failure for rank, a in self._answers.items() if a.failure}
        if failed:
            failures = "; ".join(f"rank {rank}: {text}" for rank, text in sorted(failed.items()))
            raise TrainingRankError(
                f"training failed on {failures}. Expected every rank of training_ranks to train. "
                "Labels and the last snapshot are safe: run again, with fewer training_ranks if it "
                "comes back."
            )

    def _take_answers(self) -> None:
        for rank, answer in mpi.answers(self._comm, mpi.TRAINING_TAG):
            if answer.training_round == self._number:
                self._answers[rank] = answer
                self._worked(rank, answer.seconds)
                if answer.failure:
                    self._away[rank].link.forget()

    def _load(self) -> None:
        """Take everything over at once: nothing depends on which rank was the first."""
        for member in self._members:
            member.end_round()
        records = list(self._here.records)
        for rank, away in self._away.items():
            away.link.take(self._answers[rank], away.members)
            records += self._answers[rank].records
        self._answers.clear()
        placement = {member.index: placement for placement, member in enumerate(self._members)}
        self._records = sorted(records, key=lambda r: (r.epoch, placement[r.member]))
        self.is_finished = True
