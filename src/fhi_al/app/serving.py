"""What a serving rank does with rank 0's commands.  Imports torch only if it is to train."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from mpi4py import MPI

from fhi_al.labels.engine_service import Labeller
from fhi_al.process.changes import cores


class Server:
    """On every rank but 0: obeys commands.

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
        self._labeller = Labeller(comm)
        changes.callback(self._labeller.close)
        self._training: Any = None

    def act(self, name: str, payload: Any) -> None:
        """Obey one command."""
        if name == "use cores":
            self._changes.enter_context(cores(payload))
        elif name.startswith(("train", "predict")):
            if self._training is None:
                from fhi_al.models.remote.worker import TrainingRank

                self._training = TrainingRank(self._comm, self._changes)
            self._training.act(name, payload)
        else:
            self._labeller.act(name, payload)
