"""Predictions shared among ranks: rank 0 deals them out, and takes its own part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mpi4py import MPI

from fhi_al.models.ensemble import Ensemble
from fhi_al.models.mace.prediction import Geometry
from fhi_al.models.predictor import Prediction, Predictor, broken
from fhi_al.models.remote.messages import (
    PREDICT,
    PredictionAnswer,
    PredictionOrder,
    PredictionTask,
    SentGeometry,
    assigned,
)
from fhi_al.models.remote.model_copies import weights_of
from fhi_al.models.remote.training import RemoteTrainingPool, TrainingRankError
from fhi_al.parallel import mpi


class RemotePredictor:
    """On rank 0: predicts with the help of the ranks that train.

    Parameters
    ----------
    ensemble : Ensemble
    local : Predictor
        Of rank 0's own part.
    dtype : str
        Of all predictions, a name of torch.
    comm : communicator
        The private one.
    training : SpreadTrainingPool
        Its ranks predict too, unless a visit is under way.
    as_trained : Predictor, optional
        The same models in the precision they are trained in, if that is not `dtype`.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        local: Predictor,
        dtype: str,
        comm: MPI.Intracomm,
        training: RemoteTrainingPool,
        as_trained: Predictor | None = None,
    ) -> None:
        self._ensemble = ensemble
        self._local = local
        self._dtype = dtype
        self._comm = comm
        self._training = training
        self._as_trained = as_trained
        self._sent: dict[tuple[int, int], int] = {}
        self._set_ups = 0

    @property
    def as_trained(self) -> Predictor:
        """See :attr:`fhi_al.models.predictor.Predictor.as_trained`."""
        return self._as_trained or self

    def predict(
        self, geometries: Sequence[Geometry], members: Sequence[int] | None = None
    ) -> list[Prediction]:
        """See :meth:`fhi_al.models.predictor.Predictor.predict`.

        Raises
        ------
        TrainingRankError
            If another rank cannot predict.
        """
        chosen = tuple(range(len(self._ensemble)) if members is None else members)
        if self._training.is_under_way or not geometries:
            return self._local.predict(geometries, chosen)
        self._training.set_up()
        if self._set_ups != self._training.n_set_ups:
            self._sent.clear()
            self._set_ups = self._training.n_set_ups
        tasks = assigned(len(geometries), chosen, self._training.ranks)
        mine = tasks.pop(0, ())
        sent = [_sent(geometry) for geometry in geometries]
        mpi.tell_each(
            self._comm,
            {rank: (PREDICT, self._order(rank, sent, theirs)) for rank, theirs in tasks.items()},
        )
        found = [broken(len(chosen), len(geometry.numbers)) for geometry in geometries]
        place = {member: k for k, member in enumerate(chosen)}

        def fill(task: PredictionTask, answers: Sequence[tuple[float, np.ndarray]]) -> None:
            for index, (energy, forces) in enumerate(answers, start=task.first):
                found[index].energies[place[task.member]] = energy
                found[index].forces[place[task.member]] = forces

        try:
            for task in mine:
                own = self._local.predict(geometries[task.first : task.last], [task.member])
                fill(task, [(float(p.energies[0]), p.forces[0]) for p in own])
        finally:
            # Before anything else is said to them: they wait until their answers are taken.
            answers = self._answers(set(tasks))
        for rank, answer in answers.items():
            for task, predicted in zip(tasks[rank], answer.found, strict=True):
                fill(task, predicted)
        return found

    def _order(
        self, rank: int, geometries: Sequence[SentGeometry], tasks: Sequence[PredictionTask]
    ) -> PredictionOrder:
        """What a rank must be sent for its tasks; counts as sent from here on."""
        first, last = min(task.first for task in tasks), max(task.last for task in tasks)
        weights = {}
        for member in {task.member for task in tasks}:
            version = self._ensemble.members[member].version
            if self._sent.get((rank, member)) != version:
                weights[member] = weights_of(self._ensemble.members[member].inference_model)
                self._sent[rank, member] = version
        return PredictionOrder(
            tuple(geometries[first:last]),
            tuple(PredictionTask(t.member, t.first - first, t.last - first) for t in tasks),
            weights,
            self._dtype,
        )

    def _answers(self, ranks: set[int]) -> dict[int, PredictionAnswer]:
        answers: dict[int, PredictionAnswer] = {}
        nap = mpi.Nap()
        while len(answers) < len(ranks):
            arrived = mpi.answers(self._comm, mpi.PREDICTION_TAG)
            answers.update(arrived)
            for rank, answer in arrived:
                self._training.worked(rank, answer.seconds)
            if not arrived:
                nap.take()
        failed = {rank: answer.failure for rank, answer in answers.items() if answer.failure}
        if failed:
            message = "; ".join(f"rank {rank}: {text}" for rank, text in sorted(failed.items()))
            raise TrainingRankError(
                f"MD forces failed on {message}. Expected every rank of training_ranks to predict. "
                "Labels and the last snapshot are safe: run again, with fewer training_ranks if it "
                "comes back."
            )
        return answers


def _sent(geometry: Geometry) -> SentGeometry:
    return SentGeometry(
        np.asarray(geometry.numbers),
        np.array(geometry.positions, dtype=np.float64),
        np.array(geometry.cell, dtype=np.float64),
        bool(np.any(geometry.pbc)),
    )
