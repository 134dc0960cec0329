"""The engines of a run on the ranks they belong to: rank 0 asks, the others join in.

Imports no torch, mace or pydantic: this is all a labelling rank runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from mpi4py import MPI

from fhi_al import mpi
from fhi_al.core.structure import Array
from fhi_al.reference.build import build_engine, engine_ranks
from fhi_al.reference.crash_trace import RankTrace
from fhi_al.reference.engine import EngineError, ReferenceEngine, ReferenceResult
from fhi_al.reference.spec import AsiSpec, EngineSpec

LAST_LINES = 10


class _Engines:
    """The engines that this rank takes part in, and the trace it would leave if it died in one."""

    def __init__(self, comm: MPI.Intracomm) -> None:
        self._comm = comm
        self._engines: dict[int, ReferenceEngine] = {}
        self._trace: RankTrace | None = None

    def build(self, system: int, spec: EngineSpec, traces: Path | None) -> None:
        """Collective over the engine's ranks."""
        group = _group(self._comm, spec)
        error: Exception | None = None
        if self._trace is None and traces is not None:
            try:
                self._trace = RankTrace(traces, group.rank)
            except OSError as failure:  # agreed on, and raised, below
                error = failure
        mpi.agree(group, error)
        self._engines[system] = build_engine(spec, group)

    def calculate(self, system: int, positions: Array, cell: Array) -> ReferenceResult:
        """Collective over the engine's ranks."""
        with self._trace.watching() if self._trace is not None else nullcontext():
            return self._engines[system].calculate(positions, cell)

    def close(self, system: int) -> None:
        """Collective over the engine's ranks."""
        self._engines.pop(system).close()

    def __contains__(self, system: int) -> bool:
        return system in self._engines

    def __iter__(self) -> Iterator[int]:
        return iter(tuple(self._engines))


class EngineService:
    """On rank 0: engines that all their ranks take part in, one for each system.

    Parameters
    ----------
    comm : communicator
        The private one; the other ranks are in :func:`fhi_al.mpi.serve` with a `Labeller`.
    specs : sequence of EngineSpec
        One per system.
    traces : Path or None
        Folder in which a rank leaves a trace if it dies in an engine.

    An engine starts before its first calculation: a run that has nothing to compute starts none.
    """

    def __init__(
        self, comm: MPI.Intracomm, specs: Sequence[EngineSpec], traces: Path | None = None
    ) -> None:
        self._comm = comm
        self._specs = list(specs)
        self._traces = traces
        self._engines = _Engines(comm)

    def start(self, system: int) -> None:
        """Start the engine of a system, if that has not been done.

        Raises
        ------
        EngineError
            If it cannot be started.
        """
        if system not in self._engines:
            spec = self._specs[system]
            self._tell(spec, "build", (system, spec, self._traces))
            self._engines.build(system, spec, self._traces)

    def ranks(self, system: int) -> int:
        """How many ranks take part in the calls of a system's engine."""
        return len(engine_ranks(self._specs[system], self._comm.size))

    def last_words(self) -> str:
        """The last lines that the engines have written to logs of their own; empty without any."""
        logs = [spec.log for spec in self._specs if isinstance(spec, AsiSpec)]
        return "\n".join(_last_lines(path) for path in logs if path.is_file())

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
        self.start(system)
        self._tell(self._specs[system], "calculate", (system, positions, cell))
        return self._engines.calculate(system, positions, cell)

    def close(self) -> None:
        """Close all engines on all their ranks."""
        for system in self._engines:
            self._tell(self._specs[system], "close", system)
            self._engines.close(system)

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
        self._engines = _Engines(comm)

    def act(self, name: str, payload: Any) -> None:
        """Obey one command of rank 0's `EngineService`."""
        try:
            if name == "build":
                self._engines.build(*payload)
            elif name == "calculate":
                self._engines.calculate(*payload)
            elif name == "close":
                self._engines.close(payload)
            else:
                raise ValueError(f"unknown command {name!r} from rank 0")
        except EngineError:
            # Raised on all ranks alike: rank 0 decides what follows and sends the next command.
            pass


def _group(comm: MPI.Intracomm, spec: EngineSpec) -> MPI.Intracomm:
    return comm if len(engine_ranks(spec, comm.size)) > 1 else MPI.COMM_SELF


def _last_lines(path: Path) -> str:
    lines = path.read_text(errors="replace").rstrip().splitlines()
    return "\n".join(lines[-LAST_LINES:])
