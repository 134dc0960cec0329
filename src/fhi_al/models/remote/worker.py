"""What another rank does for rank 0: hold members of its own, train them, predict with any.

Imports torch only when it is first asked to: until then the rank stays small.
"""

from __future__ import annotations

import time
import traceback
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from mpi4py import MPI

from fhi_al.models.remote.messages import (
    PREDICT,
    SETUP,
    TRAIN,
    MemberPrediction,
    PredictionRequest,
    PredictionResult,
    TrainingRequest,
    TrainingResult,
    TrainingSetup,
)
from fhi_al.parallel import mpi

if TYPE_CHECKING:
    from fhi_al.core.label import Label
    from fhi_al.models.ensemble import Ensemble
    from fhi_al.models.interface import EpochRecord, InferenceModel
    from fhi_al.models.training import SerialTrainingPool


class TrainingRank:
    """On a serving rank: an ensemble like that of rank 0, of which some members are trained.

    Parameters
    ----------
    comm : communicator
        The private one.
    changes : ExitStack
        Takes what is to be put back in this process.
    """

    def __init__(self, comm: MPI.Intracomm, changes: ExitStack) -> None:
        self._comm = comm
        self._changes = changes
        self._failure = "never set up"  # empty when it is
        self._ensemble: Ensemble
        self._pool: SerialTrainingPool
        self._labels: dict[str, Label] = {}
        # By precision and member.
        self._inference: dict[tuple[str, int], InferenceModel] = {}

    def act(self, name: str, payload: Any) -> None:
        """Obey a command of `RemoteTrainingPool` or `RemotePredictor`: SETUP, TRAIN or PREDICT."""
        if name == SETUP:
            self._set_up(payload)
        elif name == TRAIN:
            mpi.answer(self._comm, mpi.TRAINING_TAG, self._trained(payload))
        elif name == PREDICT:
            mpi.answer(self._comm, mpi.PREDICTION_TAG, self._predicted(payload))
        else:
            raise ValueError(f"unknown command {name!r} from rank 0")

    def _set_up(self, setup: TrainingSetup) -> None:
        try:
            # torch takes seconds and 300 MB, for which a rank that never trains has no use.
            import torch

            from fhi_al.models.devices import training_device
            from fhi_al.models.ensemble import Ensemble, device_problem
            from fhi_al.models.torch_set_up import torch_set_up
            from fhi_al.models.training import SerialTrainingPool

            self._changes.enter_context(torch_set_up(setup.threads))
            wanted, n_gpus = setup.settings.misc.device, torch.cuda.device_count()
            device = training_device(wanted, setup.local_index, n_gpus)
            problem = device_problem(device)
            if problem is not None:
                raise ValueError(f"mace_settings.yaml: MISC.device: {problem}")
            self._ensemble = Ensemble(setup.settings, setup.elements, setup.seeds, device)
            for index in setup.members:  # their states come with the requests
                self._ensemble.members[index].build(with_weights=False)
            self._pool = SerialTrainingPool(self._ensemble, setup.valid_skip)
            self._labels, self._inference = {}, {}
            self._failure = ""
        except Exception as error:
            self._failure = _reported(error)  # the answer to the request that follows

    def _trained(self, request: TrainingRequest) -> TrainingResult:
        started = time.monotonic()
        records: tuple[EpochRecord, ...] = ()
        states: dict[int, dict[str, Any]] = {}
        if not self._failure:
            try:
                records, states = self._train(request)
            except Exception as error:
                # Rank 0 decides what follows.  It sets this rank up anew if it wants more of it.
                self._failure = _reported(error)
        seconds = time.monotonic() - started
        return TrainingResult(request.training_round, records, states, seconds, self._failure)

    def _train(
        self, request: TrainingRequest
    ) -> tuple[tuple[EpochRecord, ...], dict[int, dict[str, Any]]]:
        """Records, and states with arrays by member; both empty if rank 0 gives the round up."""
        from fhi_al.models.state_bytes import as_arrays, as_tensors

        self._labels.update({label.key: label for label in request.labels})
        for update in request.members:
            member = self._ensemble.members[update.member]
            member.end_round()  # of one that was given up: a state is in the request then
            member.add_training([self._labels[key] for key in update.training])
            member.add_validation([self._labels[key] for key in update.validation])
            if update.state is not None:
                member.load_state(as_tensors(update.state))
        indices = [update.member for update in request.members]
        training_round = self._pool.begin(indices, request.n_epochs)
        while training_round.advance():
            if self._given_up(request.training_round):
                training_round.give_up()
                return (), {}
        states = {index: as_arrays(self._ensemble.members[index].state()) for index in indices}
        return tuple(training_round.finish()), states

    def _given_up(self, training_round: int) -> bool:
        """Whether rank 0 has no more use for this training round."""
        given_up = False
        while self._comm.iprobe(source=0, tag=mpi.TRAINING_TAG):
            # The number of one that was over when rank 0 gave it up is read, and passed over.
            given_up |= self._comm.recv(source=0, tag=mpi.TRAINING_TAG) == training_round
        return given_up

    def _predicted(self, request: PredictionRequest) -> PredictionResult:
        started = time.monotonic()
        predicted: Any = ()
        failure = self._failure
        if not failure:
            try:
                predicted = self._predict(request)
            except Exception as error:  # rank 0 decides what follows
                failure = _reported(error)
        return PredictionResult(predicted, time.monotonic() - started, failure)

    def _predict(self, request: PredictionRequest) -> Any:
        """See :class:`fhi_al.models.remote.messages.PredictionResult`."""
        from fhi_al.models.predictor import LocalPredictor

        backend, dtype = self._ensemble.backend, request.dtype
        for member, weights in request.weights.items():
            if (dtype, member) not in self._inference:
                self._inference[dtype, member] = backend.inference(dtype)
            self._inference[dtype, member].load(weights)
        predictor = LocalPredictor(
            backend, lambda member: self._inference[dtype, member], len(self._ensemble)
        )
        return tuple(
            tuple(
                MemberPrediction.of(found)
                for found in predictor.predict(
                    request.geometries[task.first : task.last],
                    [task.member],
                    stress=request.stress,
                )
            )
            for task in request.tasks
        )


def _reported(error: Exception) -> str:
    traceback.print_exception(error)
    return f"{type(error).__name__}: {error}"
