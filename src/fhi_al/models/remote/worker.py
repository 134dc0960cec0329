"""What another rank does for rank 0: hold members of its own, train them, predict with any.

Imports torch only when it is first told to: until then the rank stays small.
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
    PredictionAnswer,
    PredictionOrder,
    TrainingAnswer,
    TrainingOrder,
    TrainingSetup,
)
from fhi_al.parallel import mpi

if TYPE_CHECKING:
    from fhi_al.models.remote.replica import Replica
    from fhi_al.models.training import EpochRecord


class TrainingRank:
    """On a serving rank: the members trained there.

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
        self._replica: Replica | None = None
        self._failure = "never set up"

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
        self._replica, self._failure = None, ""
        try:
            # torch takes seconds and 300 MB, for which a rank that never trains has no use.
            from fhi_al.models.remote.replica import Replica
            from fhi_al.models.torch_set_up import torch_set_up

            self._changes.enter_context(torch_set_up(setup.threads))
            self._replica = Replica(setup)
        except Exception as error:
            self._failure = _told(error)  # the answer to the order that follows

    def _trained(self, order: TrainingOrder) -> TrainingAnswer:
        started = time.monotonic()
        records: tuple[EpochRecord, ...] = ()
        states: dict[int, dict[str, Any]] = {}
        if self._replica is not None:
            try:
                records, states = self._replica.train(
                    order, lambda: self._given_up(order.training_round)
                )
            except Exception as error:
                # Rank 0 decides what follows.  It sets this rank up anew if it wants more of it.
                self._replica, self._failure = None, _told(error)
        return TrainingAnswer(
            order.training_round, records, states, time.monotonic() - started, self._failure
        )

    def _predicted(self, order: PredictionOrder) -> PredictionAnswer:
        started = time.monotonic()
        found: Any = ()
        failure = self._failure
        if self._replica is not None:
            try:
                found = self._replica.predict(order)
            except Exception as error:  # rank 0 decides what follows
                failure = _told(error)
        return PredictionAnswer(found, time.monotonic() - started, failure)

    def _given_up(self, training_round: int) -> bool:
        """Whether rank 0 has no more use for this visit."""
        given_up = False
        while self._comm.iprobe(source=0, tag=mpi.TRAINING_TAG):
            # The number of a visit that was over when rank 0 gave it up is read, and passed over.
            given_up |= self._comm.recv(source=0, tag=mpi.TRAINING_TAG) == training_round
        return given_up


def _told(error: Exception) -> str:
    traceback.print_exception(error)
    return f"{type(error).__name__}: {error}"
