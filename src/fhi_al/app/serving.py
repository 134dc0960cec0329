"""What a serving rank does with rank 0's commands.  Imports torch only if it is to train."""

from __future__ import annotations

import os
from typing import Any

from mpi4py import MPI

from fhi_al.labels.engine_service import Labeller


class Server:
    """On every rank but 0: obeys commands.

    Parameters
    ----------
    comm : communicator
        The private one.
    """

    def __init__(self, comm: MPI.Intracomm) -> None:
        self._comm = comm
        self._labeller = Labeller(comm)
        self._training: Any = None

    def act(self, name: str, payload: Any) -> None:
        """Obey one command."""
        if name == "use cores":
            os.sched_setaffinity(0, payload)
        elif name.startswith(("train", "predict")):
            if self._training is None:
                from fhi_al.models.remote.worker import TrainingRank

                self._training = TrainingRank(self._comm)
            self._training.act(name, payload)
        else:
            self._labeller.act(name, payload)
