"""Rank 0's side of predicting on other ranks: what it asks of whom, and the answers."""

from __future__ import annotations

from collections.abc import Sequence

from fhi_al.models.interface import Geometry, Prediction, Predictor
from fhi_al.models.predictor import broken
from fhi_al.models.remote.client import RemoteTrainingPool, require_none_failed
from fhi_al.models.remote.messages import (
    PREDICT,
    MemberPrediction,
    PredictionResult,
    PredictionTask,
    assigned,
)
from fhi_al.parallel import mpi


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
        require_none_failed("MD forces", "predict", results)
        return results
