"""Workers in the background of a run: groups of MPI ranks that compute labels by themselves.

Imports no torch, mace or pydantic.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from mpi4py import MPI

from fhi_al.core.errors import EngineError
from fhi_al.engines.engine import ReferenceResult
from fhi_al.engines.spec import EngineSpec
from fhi_al.labels.crash_trace import MOST_ATTEMPTS, CallRecord
from fhi_al.labels.engine_service import EngineService, Ranks, superfluous
from fhi_al.labels.workers import Finished, Job
from fhi_al.parallel import mpi

LAST_LINES = 10


class OwnWorker:
    """Rank 0 as the only worker, where no other rank is left for labels: it computes when asked.

    The queue begins a structure and collects it at once, after it was asked whether to stop.

    Parameters
    ----------
    engines : EngineService
    calls : CallRecord
    timed : callable
        Returns a context manager under which the engine's time is booked.
    """

    in_background = False
    ends_soon = False  # nothing is under way when a run ends

    def __init__(
        self,
        engines: EngineService,
        calls: CallRecord,
        timed: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._engines = engines
        self._calls = calls
        self._timed = timed
        self._jobs: list[Job] = []

    def n_free(self) -> int:
        """One structure at a time."""
        return 1 - len(self._jobs)

    def can_begin(self, system: int) -> bool:
        """Of any system."""
        return self.n_free() > 0

    def begin(self, job: Job) -> None:
        """Take a structure; it is computed by ``collect``."""
        self._jobs.append(job)

    def collect(self) -> list[Finished]:
        """Compute the structure."""
        jobs, self._jobs = self._jobs, []
        return [self._calculated(job) for job in jobs]

    def busy_seconds(self) -> dict[int, float]:
        """Nothing: what rank 0 does is booked elsewhere."""
        return {}

    def close(self) -> None:
        """Let the engines go."""
        self._engines.close()

    def _calculated(self, job: Job) -> Finished:
        given_up = _given_up(self._calls, job.key)
        if given_up is not None:
            return given_up
        started = time.monotonic()
        result: ReferenceResult | EngineError
        try:
            self._engines.start(job.system)
            with self._timed(), self._calls.of(job.key, self._engines.ranks(job.system)):
                result = self._engines.calculate(job.system, job.positions, job.cell)
        except EngineError as error:
            result = error
        return Finished(job.key, result, time.monotonic() - started)


class EngineGroups:
    """On rank 0: groups of other ranks, each with engines of its own, that compute by themselves.

    Parameters
    ----------
    comm : communicator
        The private one; the other ranks are in :func:`fhi_al.parallel.mpi.serve` with a `Labeller`.
    specs : sequence of EngineSpec
        One per system.
    groups : sequence of tuple of int
        The ranks of each group, without rank 0.
    calls : CallRecord
    most_open : int or None
        Engines that a group keeps at a time; of more systems than these the oldest is closed.
    only_system : sequence of int
        The one system that each group computes; empty where all compute any.
    """

    in_background = True
    ends_soon = True

    def __init__(
        self,
        comm: MPI.Intracomm,
        specs: Sequence[EngineSpec],
        groups: Sequence[Ranks],
        calls: CallRecord,
        most_open: int | None = None,
        only_system: Sequence[int] = (),
    ) -> None:
        self._comm = comm
        self._groups = list(groups)
        self._only_system = only_system
        self._specs = [specs_of_group(specs, k, len(groups)) for k in range(len(groups))]
        self._calls = calls
        self._most_open = most_open
        self._built: list[list[int]] = [[] for _ in groups]
        self._busy: dict[int, Job] = {}
        self._given_up: list[Finished] = []
        self._seconds = dict.fromkeys(range(len(groups)), 0.0)

    def n_free(self) -> int:
        """Groups with nothing to do."""
        return len(self._groups) - len(self._busy)

    def can_begin(self, system: int) -> bool:
        """Whether a group that computes the system has nothing to do."""
        return self._free_group(system) is not None

    def begin(self, job: Job) -> None:
        """Give a structure to a free group that computes its system."""
        given_up = _given_up(self._calls, job.key)
        if given_up is not None:
            self._given_up.append(given_up)
            return
        number = self._free_group(job.system)
        assert number is not None
        ranks, spec = self._groups[number], self._specs[number][job.system]
        built = self._built[number]
        if job.system not in built:
            for oldest in superfluous(built, self._most_open):
                mpi.tell(self._comm, ranks, "close", oldest)
                built.remove(oldest)
            how = (job.system, spec, ranks, self._calls.traces)
            mpi.tell(self._comm, ranks, "build", how)
            built.append(job.system)
        self._calls.begin(job.key, ranks)
        what = (job.key, job.system, job.positions, job.cell, ranks[0])
        mpi.tell(self._comm, ranks, "label", what)
        self._busy[number] = job

    def collect(self) -> list[Finished]:
        """What the groups have finished."""
        finished, self._given_up = self._given_up, []
        for rank, (key, result, seconds) in mpi.answers(self._comm, mpi.LABEL_TAG):
            number = next(k for k, ranks in enumerate(self._groups) if rank in ranks)
            del self._busy[number]
            self._seconds[number] += seconds
            self._calls.ended(key, result if isinstance(result, EngineError) else None)
            finished.append(Finished(key, result, seconds))
        return finished

    def _free_group(self, system: int) -> int | None:
        for number in range(len(self._groups)):
            computes = not self._only_system or self._only_system[number] == system
            if computes and number not in self._busy:
                return number
        return None

    def close(self) -> None:
        """Close the engines of all groups; none may be at work."""
        for ranks, built in zip(self._groups, self._built, strict=True):
            while built:
                mpi.tell(self._comm, ranks, "close", built.pop())

    def busy_seconds(self) -> dict[int, float]:
        """Rank -> seconds it has spent in calculations that are finished."""
        return {rank: self._seconds[k] for k, ranks in enumerate(self._groups) for rank in ranks}


def specs_of_group(specs: Sequence[EngineSpec], group: int, n_groups: int) -> list[EngineSpec]:
    """The engines' specs for one of several groups: each works in a folder of its own."""
    if n_groups == 1:
        return list(specs)
    return [spec.in_group(group + 1) for spec in specs]


def last_output(specs: Sequence[EngineSpec]) -> str:
    """The last lines that engines have written to logs of their own; empty without any."""
    logs = dict.fromkeys(spec.log for spec in specs if spec.log is not None)
    return "\n".join(_last_lines(path) for path in logs if path.is_file())


def _given_up(calls: CallRecord, key: str) -> Finished | None:
    crashes = calls.crashes(key)
    if crashes < MOST_ATTEMPTS:
        return None
    # Settled: the store keeps the rejection.
    calls.forget(key)
    return Finished(key, f"the engine died on it {crashes} times", 0.0)


def _last_lines(path: Path) -> str:
    lines = path.read_text(errors="replace").rstrip().splitlines()
    return "\n".join(lines[-LAST_LINES:])
