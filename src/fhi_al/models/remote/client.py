"""Rank 0's side of training and predicting on other ranks.

Rank 0 holds all members before and after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mpi4py import MPI

from fhi_al.core.errors import EngineError
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.interface import EpochRecord, Geometry, Prediction, Predictor
from fhi_al.models.member import Member
from fhi_al.models.predictor import broken
from fhi_al.models.remote.held import OtherRank
from fhi_al.models.remote.messages import (
    PREDICT,
    SETUP,
    TRAIN,
    MemberPrediction,
    PredictionResult,
    PredictionTask,
    TrainingResult,
    TrainingSetup,
    assigned,
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
        _require_none_failed("training", "train", self._results)

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


class RemotePredictor:
    """On rank 0: predicts with the help of the ranks that train, unless they are training.

    Parameters
    ----------
    pool : RemoteTrainingPool
    dtype : str, optional
        Precision of all predictions; that of training if it is left out.
    """

    def __init__(self, pool: RemoteTrainingPool, dtype: str | None = None) -> None:
        trained_in = pool.ensemble.backend.dtype
        self._pool = pool
        self._dtype = trained_in if dtype is None else dtype
        self._local = pool.ensemble.predictor(self._dtype)
        self._as_trained = self if self._dtype == trained_in else RemotePredictor(pool)

    @property
    def as_trained(self) -> Predictor:
        """See :attr:`fhi_al.models.interface.Predictor.as_trained`."""
        return self._as_trained

    def predict(
        self,
        geometries: Sequence[Geometry],
        members: Sequence[int] | None = None,
        *,
        stress: bool = False,
    ) -> list[Prediction]:
        """See :meth:`fhi_al.models.interface.Predictor.predict`.

        Raises
        ------
        TrainingRankError
            If another rank cannot predict.
        """
        pool, every = self._pool, self._pool.ensemble.members
        chosen = tuple(range(len(every)) if members is None else members)
        if pool.is_under_way or not geometries:
            return self._local.predict(geometries, chosen, stress=stress)
        pool.set_up()
        tasks = assigned(len(geometries), chosen, pool.ranks)
        here = tasks.pop(0, ())
        requests = {
            rank: pool.others[rank].prediction_request(
                geometries, theirs, every, self._dtype, stress
            )
            for rank, theirs in tasks.items()
        }
        mpi.tell_each(pool.comm, {rank: (PREDICT, one) for rank, one in requests.items()})
        found = [broken(len(chosen), len(one.numbers), stress=stress) for one in geometries]
        place = {member: k for k, member in enumerate(chosen)}

        def fill(task: PredictionTask, predicted: Sequence[MemberPrediction]) -> None:
            for index, one in enumerate(predicted, start=task.first):
                whole, at = found[index], place[task.member]
                whole.energies[at], whole.forces[at] = one.energy, one.forces
                if whole.stress is not None:
                    whole.stress[at] = one.stress

        try:
            for task in here:
                some = geometries[task.first : task.last]
                own = self._local.predict(some, [task.member], stress=stress)
                fill(task, [MemberPrediction.of(each) for each in own])
        finally:
            # Before anything else is sent to them: they wait until their answers are taken.
            results = self._results(set(tasks))
        for rank, result in results.items():
            for task, predicted in zip(tasks[rank], result.predicted, strict=True):
                fill(task, predicted)
        return found

    def _results(self, ranks: set[int]) -> dict[int, PredictionResult]:
        results: dict[int, PredictionResult] = {}
        nap = mpi.Nap()
        while len(results) < len(ranks):
            arrived = mpi.answers(self._pool.comm, mpi.PREDICTION_TAG)
            results.update(arrived)
            for rank, result in arrived:
                self._pool.worked(rank, result.seconds)
            if not arrived:
                nap.take()
        _require_none_failed("MD forces", "predict", results)
        return results


def _require_none_failed(
    what: str, act: str, results: Mapping[int, TrainingResult | PredictionResult]
) -> None:
    failed = sorted((rank, one.failure) for rank, one in results.items() if one.failure)
    if failed:
        reasons = "; ".join(f"rank {rank}: {failure}" for rank, failure in failed)
        raise TrainingRankError(
            f"{what} failed on {reasons}. Expected every rank of training_ranks to {act}. "
            f"{_WHAT_NEXT}"
        )
