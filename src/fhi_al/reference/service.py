"""The engines of a run on the ranks they belong to: rank 0 asks, the others join in.

Imports no torch, mace or pydantic: this is all a labelling rank runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpi4py import MPI

from fhi_al import mpi
from fhi_al.core.structure import Array
from fhi_al.reference.build import build_engine, engine_ranks
from fhi_al.reference.engine import EngineError, ReferenceEngine, ReferenceResult
from fhi_al.reference.spec import EngineSpec


class EngineService:
    """On rank 0: engines that all their ranks take part in, one for each system.

    Parameters
    ----------
    comm : communicator
        The private one; the other ranks are in :func:`fhi_al.mpi.serve` with a `Labeller`.
    specs : sequence of EngineSpec
        One per system.

    An engine starts with its first calculation: a run that has nothing to compute starts none.
    """

    def __init__(self, comm: MPI.Intracomm, specs: Sequence[EngineSpec]) -> None:
        self._comm = comm
        self._specs = list(specs)
        self._engines: dict[int, ReferenceEngine] = {}

    def calculate(self, system: int, positions: Array, cell: Array) -> ReferenceResult:
        """Label a structure with all ranks of its engine.

        Parameters
        ----------
        system : int
        positions : (n_atoms, 3)
            In A.
        cell : (3, 3)
            In A.

        Raises
        ------
        EngineError
            If the engine is broken, or cannot be started.
        """
        spec = self._specs[system]
        if system not in self._engines:
            self._tell(spec, "build", (system, spec))
            self._engines[system] = build_engine(spec, _group(self._comm, spec))
        self._tell(spec, "calculate", (system, positions, cell))
        return self._engines[system].calculate(positions, cell)

    def close(self) -> None:
        """Close all engines on all their ranks."""
        for system, engine in self._engines.items():
            self._tell(self._specs[system], "close", system)
            engine.close()
        self._engines = {}

    def _tell(self, spec: EngineSpec, name: str, payload: Any) -> None:
        if len(engine_ranks(spec, self._comm.size)) > 1:
            mpi.call(self._comm, name, payload)


class Labeller:
    """On every other rank: the same engines, told what to do.

    Parameters
    ----------
    comm : communicator
        The private one.
    """

    def __init__(self, comm: MPI.Intracomm) -> None:
        self._comm = comm
        self._engines: dict[int, ReferenceEngine] = {}

    def act(self, name: str, payload: Any) -> None:
        """Obey one command of rank 0's `EngineService`."""
        try:
            if name == "build":
                system, spec = payload
                self._engines[system] = build_engine(spec, _group(self._comm, spec))
            elif name == "calculate":
                system, positions, cell = payload
                self._engines[system].calculate(positions, cell)
            elif name == "close":
                self._engines.pop(payload).close()
            else:
                raise ValueError(f"unknown command {name!r} from rank 0")
        except EngineError:
            # Raised on all ranks alike: rank 0 decides what follows and sends the next command.
            pass


def _group(comm: MPI.Intracomm, spec: EngineSpec) -> MPI.Intracomm:
    return comm if len(engine_ranks(spec, comm.size)) > 1 else MPI.COMM_SELF
