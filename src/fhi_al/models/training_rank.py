"""What another rank does for rank 0: hold members of its own, train them, predict with any.

Imports torch only when it is first told to: until then the rank stays small.
"""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpi4py import MPI

from fhi_al import mpi
from fhi_al.core.label import Label
from fhi_al.models.prediction_order import PREDICT, PredictionAnswer, PredictionOrder

if TYPE_CHECKING:
    from fhi_al.models.replica import Replica
    from fhi_al.models.training import EpochRecord

SETUP, TRAIN = "train setup", "train"


@dataclass(frozen=True)
class TrainingSetup:
    """What a training rank builds its members from.

    Parameters
    ----------
    settings
        Of mace_settings.yaml.
    elements, seeds : tuple of int
        As for rank 0's ensemble.
    members : tuple of int
        Those that are trained on this rank.
    valid_skip : int
        Epochs between validations.
    threads : int or None
        Of torch; None for ``MISC.num_threads``.
    local_index : int
        Which of the training ranks on its host this is, counted from 0.
    """

    settings: Any
    elements: tuple[int, ...]
    seeds: tuple[int, ...]
    members: tuple[int, ...]
    valid_skip: int
    threads: int | None
    local_index: int


@dataclass(frozen=True)
class MemberOrder:
    """What is new about a member since the visit before.

    Parameters
    ----------
    member : int
    training, validation : tuple of str
        Keys of labels to append to its sets.
    state : dict or None
        To begin from, with arrays; None for the one that the rank has.
    """

    member: int
    training: tuple[str, ...]
    validation: tuple[str, ...]
    state: dict[str, Any] | None


@dataclass(frozen=True)
class TrainingOrder:
    """One visit of one rank: its number, what to train, and the labels the rank does not have."""

    visit: int
    n_epochs: int
    labels: tuple[Label, ...]
    members: tuple[MemberOrder, ...]


@dataclass(frozen=True)
class TrainingAnswer:
    """What came of an order.

    Parameters
    ----------
    visit : int
    records : tuple of EpochRecord
    states : dict
        Member -> its state with arrays; empty if the visit was given up or failed.
    seconds : float
        Spent on it.
    trouble : str
        What went wrong; empty if nothing did.
    """

    visit: int
    records: tuple[EpochRecord, ...]
    states: dict[int, dict[str, Any]]
    seconds: float
    trouble: str = ""


class TrainingRank:
    """On a serving rank: the members trained there.

    Parameters
    ----------
    comm : communicator
        The private one.
    """

    def __init__(self, comm: MPI.Intracomm) -> None:
        self._comm = comm
        self._replica: Replica | None = None
        self._trouble = "never set up"

    def act(self, name: str, payload: Any) -> None:
        """Obey a command of `SpreadTrainingPool` or `SpreadPredictor`: SETUP, TRAIN or PREDICT."""
        if name == SETUP:
            self._set_up(payload)
        elif name == TRAIN:
            mpi.answer(self._comm, mpi.TRAINING_TAG, self._trained(payload))
        elif name == PREDICT:
            mpi.answer(self._comm, mpi.PREDICTION_TAG, self._predicted(payload))
        else:
            raise ValueError(f"unknown command {name!r} from rank 0")

    def _set_up(self, setup: TrainingSetup) -> None:
        self._replica, self._trouble = None, ""
        try:
            # torch takes seconds and 300 MB, for which a rank that never trains has no use.
            from fhi_al.models.replica import Replica

            self._replica = Replica(setup)
        except Exception as error:
            self._trouble = _told(error)  # the answer to the order that follows

    def _trained(self, order: TrainingOrder) -> TrainingAnswer:
        started = time.monotonic()
        records: tuple[EpochRecord, ...] = ()
        states: dict[int, dict[str, Any]] = {}
        if self._replica is not None:
            try:
                records, states = self._replica.train(order, lambda: self._given_up(order.visit))
            except Exception as error:
                # Rank 0 decides what follows.  It sets this rank up anew if it wants more of it.
                self._replica, self._trouble = None, _told(error)
        return TrainingAnswer(
            order.visit, records, states, time.monotonic() - started, self._trouble
        )

    def _predicted(self, order: PredictionOrder) -> PredictionAnswer:
        started = time.monotonic()
        found: Any = ()
        trouble = self._trouble
        if self._replica is not None:
            try:
                found = self._replica.predict(order)
            except Exception as error:  # rank 0 decides what follows
                trouble = _told(error)
        return PredictionAnswer(found, time.monotonic() - started, trouble)

    def _given_up(self, visit: int) -> bool:
        """Whether rank 0 has no more use for this visit."""
        given_up = False
        while self._comm.iprobe(source=0, tag=mpi.TRAINING_TAG):
            # The number of a visit that was over when rank 0 gave it up is read, and passed over.
            given_up |= self._comm.recv(source=0, tag=mpi.TRAINING_TAG) == visit
        return given_up


def _told(error: Exception) -> str:
    traceback.print_exception(error)
    return f"{type(error).__name__}: {error}"
