"""The engines of a run on the ranks they belong to: rank 0 asks, the others obey.

``EngineService`` is for calls that rank 0 takes part in; ``mpi_workers`` for those that others do
alone.  Imports no torch, mace or pydantic: this is all a labelling rank runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from mpi4py import MPI

from fhi_al.core.errors import EngineError
from fhi_al.core.structure import Array
from fhi_al.engines.engine import ReferenceEngine, ReferenceResult
from fhi_al.engines.spec import EngineSpec
from fhi_al.labels.crash_trace import RankTrace
from fhi_al.parallel import mpi
from fhi_al.process.malloc import give_back_freed_memory

Ranks = tuple[int, ...]


class _Engines:
    """The engines that this rank takes part in, and the trace it would leave if it died in one."""

    def __init__(self, comm: MPI.Intracomm) -> None:
        self._comm = comm
        self._groups: dict[Ranks, MPI.Intracomm] = {}
        self._engines: dict[int, ReferenceEngine] = {}
        self._trace: RankTrace | None = None

    def build(self, system: int, spec: EngineSpec, ranks: Ranks, traces: Path | None) -> None:
        """Collective over the engine's ranks."""
        group = self._group(ranks)
        error: Exception | None = None
        if self._trace is None and traces is not None:
            try:
                self._trace = RankTrace(traces, self._comm.rank)
            except OSError as failure:  # agreed on, and raised, below
                error = failure
        mpi.agree(group, error)
        self._engines[system] = spec.build(group)

    def calculate(self, system: int, positions: Array, cell: Array) -> ReferenceResult:
        """Collective over the engine's ranks."""
        give_back_freed_memory()
        with self._trace.watching() if self._trace is not None else nullcontext():
            return self._engines[system].calculate(positions, cell)

    def close(self, system: int) -> None:
        """Collective over the engine's ranks."""
        self._engines.pop(system).close()
        if not self._engines:
            self.close_trace()

    def close_trace(self) -> None:
        """No engine is left on this rank."""
        if self._trace is not None:
            self._trace.close()
            self._trace = None

    def _group(self, ranks: Ranks) -> MPI.Intracomm:
        if len(ranks) == 1:
            return MPI.COMM_SELF
        if len(ranks) == self._comm.size:
            return self._comm
        if ranks not in self._groups:
            # Collective over these ranks only: the others are at something else.
            self._groups[ranks] = self._comm.Create_group(self._comm.group.Incl(ranks))
        return self._groups[ranks]

    def __contains__(self, system: int) -> bool:
        return system in self._engines

    def __iter__(self) -> Iterator[int]:
        return iter(tuple(self._engines))


def superfluous(built: Sequence[int], most_open: int | None) -> list[int]:
    """Of systems whose engines are open, oldest first: those to close before another is built."""
    if most_open is None or len(built) < most_open:
        return []
    return list(built[: len(built) - most_open + 1])


class EngineService:
    """On rank 0: engines whose calls rank 0 takes part in, one for each system.

    Parameters
    ----------
    comm : communicator
        The private one; the other ranks are in :func:`fhi_al.parallel.mpi.serve` with a `Labeller`.
    specs : sequence of EngineSpec
        One per system.
    traces : Path or None
        Folder in which a rank leaves a trace if it dies in an engine.
    alone : bool
        Rank 0 computes by itself, whatever the engine could do with more ranks.
    most_open : int or None
        Engines that are kept at a time; of more systems than these the oldest is closed.

    An engine starts before its first calculation: a run that has nothing to compute starts none.
    """

    def __init__(
        self,
        comm: MPI.Intracomm,
        specs: Sequence[EngineSpec],
        traces: Path | None = None,
        *,
        alone: bool = False,
        most_open: int | None = None,
    ) -> None:
        self._comm = comm
        self._specs = list(specs)
        self._traces = traces
        self._alone = alone
        self._most_open = most_open
        self._engines = _Engines(comm)

    def start(self, system: int) -> None:
        """Start the engine of a system, if that has not been done.

        Raises
        ------
        EngineError
            If it cannot be started.
        """
        if system not in self._engines:
            for oldest in superfluous(list(self._engines), self._most_open):
                self._close(oldest)
            build = (system, self._specs[system], self.ranks(system), self._traces)
            self._tell(system, "build", build)
            self._engines.build(*build)

    def ranks(self, system: int) -> Ranks:
        """The ranks that take part in the calls of a system's engine."""
        together = self._specs[system].is_collective and not self._alone
        return tuple(range(self._comm.size)) if together else (0,)

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
        self._tell(system, "calculate", (system, positions, cell))
        return self._engines.calculate(system, positions, cell)

    def close(self) -> None:
        """Close all engines on all their ranks."""
        for system in self._engines:
            self._close(system)
        self._engines.close_trace()

    def _close(self, system: int) -> None:
        self._tell(system, "close", system)
        self._engines.close(system)

    def _tell(self, system: int, name: str, payload: Any) -> None:
        mpi.tell(self._comm, self.ranks(system)[1:], name, payload)


class Labeller:
    """On every other rank: the same engines, which obey rank 0's commands.

    Parameters
    ----------
    comm : communicator
        The private one.
    """

    def __init__(self, comm: MPI.Intracomm) -> None:
        self._comm = comm
        self._engines = _Engines(comm)
        self._not_built: dict[int, EngineError] = {}

    def act(self, name: str, payload: Any) -> None:
        """Obey one command of rank 0."""
        try:
            if name == "build":
                self._build(*payload)
            elif name == "calculate":
                self._engines.calculate(*payload)
            elif name == "label":
                self._label(*payload)
            elif name == "close":
                if payload in self._engines:
                    self._engines.close(payload)
            else:
                raise ValueError(f"unknown command {name!r} from rank 0")
        except EngineError:
            # Raised on all ranks alike: rank 0 decides what follows and sends the next command.
            pass

    def close(self) -> None:
        """Rank 0 has no more commands."""
        self._engines.close_trace()

    def _build(self, system: int, *how: Any) -> None:
        try:
            self._engines.build(system, *how)
        except EngineError as error:
            self._not_built[system] = error
            raise
        self._not_built.pop(system, None)

    def _label(self, key: str, system: int, positions: Array, cell: Array, speaker: int) -> None:
        """Compute a structure with the ranks of the group, one of which answers."""
        started = time.monotonic()
        result: ReferenceResult | EngineError
        try:
            if system in self._not_built:
                raise self._not_built[system]
            result = self._engines.calculate(system, positions, cell)
        except EngineError as error:
            result = error
        if self._comm.rank == speaker:
            mpi.answer(self._comm, mpi.LABEL_TAG, (key, result, time.monotonic() - started))
