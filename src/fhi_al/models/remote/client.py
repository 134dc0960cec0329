"""Rank 0's side of training on other ranks; it holds all members before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mpi4py import MPI

from fhi_al.core.errors import EngineError
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.interface import EpochRecord
from fhi_al.models.member import Member
from fhi_al.models.remote.held import OtherRank
from fhi_al.models.remote.messages import (
    SETUP,
    TRAIN,
    PredictionResult,
    TrainingResult,
    TrainingSetup,
)
from fhi_al.models.training import LocalWork, TrainingRound
from fhi_al.parallel import mpi

_WHAT_NEXT = (
    "Labels and the last snapshot are safe: run again, with fewer training_ranks if it happens"
    " again."
)


class TrainingRankError(EngineError):
    """Another rank could not train or predict; the message says which, and why."""


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
    """On rank 0: divides members among ranks, which train at the same time.

    Parameters
    ----------
    ensemble : Ensemble
        With all members; it has their new states when a training round is finished.
    valid_skip : int
        Epochs between validations, counted from the beginning of a member's training.
    comm : communicator
        The private one; the other ranks serve it with a `TrainingRank`.
    ranks : sequence of int
        Member k is trained on ``ranks[k % len(ranks)]``; 0 may be among them.
    placements : mapping of int to TrainingPlacement, optional
        By rank.  Rank 0 trains as its ensemble was made.
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
        self.ensemble = ensemble
        self.comm = comm
        self.ranks = tuple(ranks)
        self._valid_skip = valid_skip
        self._n_rounds = 0
        self._training_round: TrainingRound | None = None
        self._busy_s = dict.fromkeys(self.ranks, 0.0)
        self.others = {
            rank: OtherRank(self._setup(rank, (placements or {}).get(rank, TrainingPlacement())))
            for rank in self._busy_s
            if rank != 0
        }

    @property
    def is_under_way(self) -> bool:
        """Whether a training round is: the other ranks are busy."""
        return self._training_round is not None and not self._training_round.is_finished

    def set_up(self) -> None:
        """Let the other ranks import torch and build their members, and do not wait for it.

        The first training round does the same, and waits some 10 s.
        """
        for rank, other in self.others.items():
            if not other.is_set_up:
                mpi.tell(self.comm, [rank], SETUP, other.setup)
                other.is_set_up = True

    def begin(self, members: Sequence[int], n_epochs: int) -> TrainingRound:
        """See :meth:`fhi_al.models.training.TrainingPool.begin`."""
        if self.is_under_way:
            raise RuntimeError("a training round is under way: finish it before the next one")
        self.set_up()
        self._n_rounds += 1
        chosen = [self.ensemble.members[index] for index in members]
        by_rank: dict[int, list[Member]] = {}
        for member in chosen:
            by_rank.setdefault(self._rank_of(member.index), []).append(member)
        here = by_rank.pop(0, [])
        mpi.tell_each(
            self.comm,
            {
                rank: (TRAIN, self.others[rank].training_request(self._n_rounds, theirs, n_epochs))
                for rank, theirs in by_rank.items()
            },
        )
        work = LocalWork(here, n_epochs, self._valid_skip, lambda s: self.worked(0, s))
        away = MembersAway(self, self._n_rounds, by_rank)
        self._training_round = TrainingRound(chosen, work, away)
        return self._training_round

    def busy_seconds(self) -> dict[int, float]:
        """See :meth:`fhi_al.models.training.TrainingPool.busy_seconds`.

        Those of another rank grow when its answer arrives.
        """
        return dict(self._busy_s)

    def worked(self, rank: int, seconds: float) -> None:
        """Count seconds that a rank has worked."""
        if rank in self._busy_s:
            self._busy_s[rank] += seconds

    def close(self) -> None:
        """See :meth:`fhi_al.models.training.TrainingPool.close`; waits for a batch or so."""
        if self._training_round is not None:
            self._training_round.give_up()

    def _rank_of(self, member: int) -> int:
        return self.ranks[member % len(self.ranks)]

    def _setup(self, rank: int, placement: TrainingPlacement) -> TrainingSetup:
        members = self.ensemble.members
        return TrainingSetup(
            settings=self.ensemble.settings,
            elements=self.ensemble.backend.elements,
            seeds=tuple(member.seed for member in members),
            members=tuple(m.index for m in members if self._rank_of(m.index) == rank),
            valid_skip=self._valid_skip,
            threads=placement.threads,
            local_index=placement.local_index,
        )


class MembersAway:
    """Members being trained on other ranks; a :class:`fhi_al.models.training.RemoteWork`.

    Parameters
    ----------
    pool : RemoteTrainingPool
    number : int
        Of the training round, in this launch.
    members : dict of int to list of Member
        Rank -> the members it trains.
    """

    def __init__(
        self, pool: RemoteTrainingPool, number: int, members: dict[int, list[Member]]
    ) -> None:
        self._pool = pool
        self._number = number
        self._members = members
        self._results: dict[int, TrainingResult] = {}
        self._nap = mpi.Nap()

    @property
    def is_done(self) -> bool:
        """See :attr:`fhi_al.models.training.RemoteWork.is_done`."""
        return len(self._results) == len(self._members)

    def step(self) -> None:
        """See :meth:`fhi_al.models.training.RemoteWork.step`.

        Raises
        ------
        TrainingRankError
            If the training has failed on a rank.
        """
        self._take_results()
        require_none_failed("training", "train", self._results)

    def wait(self) -> None:
        """See :meth:`fhi_al.models.training.RemoteWork.wait`."""
        self._nap.take()

    def load(self) -> list[EpochRecord]:
        """See :meth:`fhi_al.models.training.RemoteWork.load`."""
        for rank, members in self._members.items():
            self._pool.others[rank].load_states(self._results[rank], members)
        return [record for result in self._results.values() for record in result.records]

    def stop(self) -> None:
        """See :meth:`fhi_al.models.training.RemoteWork.stop`."""
        absent = self._members.keys() - self._results.keys()
        comm = self._pool.comm
        notes = [comm.isend(self._number, dest=rank, tag=mpi.TRAINING_TAG) for rank in absent]
        nap = mpi.Nap()
        while absent - self._results.keys() or not MPI.Request.Testall(notes):
            self._take_results()
            nap.take()

    def _take_results(self) -> None:
        for rank, result in mpi.answers(self._pool.comm, mpi.TRAINING_TAG):
            if result.training_round == self._number:
                self._results[rank] = result
                self._pool.worked(rank, result.seconds)
                if result.failure:
                    self._pool.others[rank].forget()


def require_none_failed(
    what: str, act: str, results: Mapping[int, TrainingResult | PredictionResult]
) -> None:
    """Raise what other ranks have failed at.

    Raises
    ------
    TrainingRankError
        If one has: which, and why.
    """
    failed = sorted((rank, one.failure) for rank, one in results.items() if one.failure)
    if failed:
        reasons = "; ".join(f"rank {rank}: {failure}" for rank, failure in failed)
        raise TrainingRankError(
            f"{what} failed on {reasons}. Expected every rank of training_ranks to {act}. "
            f"{_WHAT_NEXT}"
        )
