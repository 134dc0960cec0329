"""Labels as jobs on a cluster: begun, tried again, and found again after a restart.

Owns the run's ``cluster/``: a folder for each job, named by its key, with its result and one folder
for each attempt.  The jobs run elsewhere (:mod:`fhi_al.labels.cluster.worker`).
"""

from __future__ import annotations

import importlib.util
import logging
import pickle
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fhi_al.core.errors import CannotCompute, EngineError
from fhi_al.engines.engine import ReferenceResult
from fhi_al.engines.fingerprint import fingerprint
from fhi_al.engines.spec import EngineSpec
from fhi_al.labels.cluster.job import JobInput
from fhi_al.labels.cluster.options import ClusterOptions
from fhi_al.labels.cluster.result import parsed_result, read_result
from fhi_al.labels.cluster.worker import JobOrder, JobReport, attempts_begun
from fhi_al.labels.workers import Finished, Job

if TYPE_CHECKING:
    from fhi_al.labels.cluster.parsl import ParslJobs

log = logging.getLogger(__name__)

NOT_INSTALLED = "needs Parsl, which is not installed. Try pip install 'fhi-al[cluster]'"


def parsl_problem() -> str | None:
    """Why there can be no jobs on a cluster; None if Parsl is installed."""
    return None if importlib.util.find_spec("parsl") else NOT_INSTALLED


@dataclass(eq=False)
class _Out:
    """A job that is out: what it is, and how often it failed, or was lost before it began."""

    job: Job
    future: Future[JobReport]
    begun: int
    failures: int = 0
    never_begun: int = 0
    seconds: float = 0.0


class ClusterWorkers:
    """Computes structures as jobs on a cluster; a :class:`fhi_al.labels.workers.Workers`.

    Workers are had when there is something to compute.

    Parameters
    ----------
    specs : sequence of EngineSpec
        One per system.
    options : ClusterOptions
    folder : Path
        The run's ``cluster/``, on a file system that the workers share; made if it is not there.

    Attributes
    ----------
    in_background : bool
        True.
    ends_soon : bool
        False: a job may wait in Slurm's queue for days.
    """

    in_background = True
    ends_soon = False

    def __init__(self, specs: Sequence[EngineSpec], options: ClusterOptions, folder: Path) -> None:
        self._specs = specs
        self._options = options
        self._folder = folder.resolve()
        # Of each system by itself: results are found again when there are other systems beside it.
        self._engines = [fingerprint(spec) for spec in specs]
        self._out: dict[str, _Out] = {}
        self._ready: list[Finished] = []
        self._last_output = ""
        self._jobs: ParslJobs | None = None

    def n_free(self) -> int:
        """How many more jobs may be begun now."""
        return max(0, self._options.most_jobs - len(self._out) - len(self._ready))

    def can_begin(self, system: int) -> bool:
        """Whether there is room for a job more, whatever the system."""
        return self.n_free() > 0

    def begin(self, job: Job) -> None:
        """Begin a job, or find its result from an earlier launch; returns at once.

        Raises
        ------
        EngineError
            If Parsl does not start, or the workers cannot be had any more.
        ValueError
            If it is out already.
        """
        if job.key in self._out or any(done.key == job.key for done in self._ready):
            raise ValueError(f"job {job.key} is out already")
        found = read_result(
            self._job_folder(job),
            self._engines[job.system],
            job.key,
            len(job.positions),
            self._specs[job.system].wants_stress,
        )
        if found is not None:
            log.debug("job %s was finished by an earlier launch", job.key)
            self._ready.append(Finished(job.key, *found))
            return
        self._check()
        begun = attempts_begun(self._job_folder(job))
        self._out[job.key] = _Out(job, self._submit(job), begun)

    def collect(self) -> list[Finished]:
        """The jobs that have come to an end since the last call; returns at once.

        Raises
        ------
        EngineError
            If the workers cannot be had any more; what has finished is found after a restart.
        """
        finished, self._ready = self._ready, []
        for out in list(self._out.values()):
            if out.future.done():
                done = self._ended(out)
                if done is not None:
                    finished.append(done)
        if not finished:
            self._check()
        return finished

    def busy_seconds(self) -> dict[int, float]:
        """Nothing: no rank of the driver's job computes."""
        return {}

    def last_output(self) -> str:
        """The last lines of the job that failed last; may be empty."""
        return self._last_output

    def close(self) -> None:
        """End all workers; jobs under way are given up.  Twice is harmless."""
        if self._jobs is not None:
            self._jobs.close()

    def _job_folder(self, job: Job) -> Path:
        return self._folder / job.key

    def _submit(self, job: Job) -> Future[JobReport]:
        folder = str(self._job_folder(job))
        spec = self._specs[job.system]
        given = JobInput(spec, self._engines[job.system], job.key, job.positions, job.cell, folder)
        options = self._options
        order = JobOrder(
            pickle.dumps(given),
            folder,
            options.job_timeout_s,
            options.cores_per_worker,
            spec.output_files,
        )
        if self._jobs is None:  # now: a run with nothing to compute needs no workers
            self._jobs = _started(options, self._folder / "parsl")
        return self._jobs.submit(order)

    def _ended(self, out: _Out) -> Finished | None:
        """What became of a job whose attempt has ended; None if it is tried again."""
        report = _report(out.future)
        out.seconds += report.seconds
        result, why = self._judged(out.job, report)
        if result is not None:
            del self._out[out.job.key]
            return Finished(out.job.key, *result)
        if report.cannot_compute:
            del self._out[out.job.key]
            return Finished(out.job.key, CannotCompute(why), out.seconds)
        # Workers that cannot be had are not the structure's fault.
        self._check()
        begun = attempts_begun(self._job_folder(out.job))
        if self._never_began(out, begun):
            out.never_begun += 1
        else:
            out.failures += 1
        self._last_output = report.output or self._last_output
        if out.failures < self._options.attempts:
            log.info("job %s failed (%s): trying again", out.job.key, why)
            out.begun = begun
            out.future = self._submit(out.job)
            return None
        del self._out[out.job.key]
        times = f"{out.failures} times, the last time because " if out.failures > 1 else "once: "
        return Finished(out.job.key, f"the job failed {times}{why}", out.seconds)

    def _never_began(self, out: _Out, begun: int) -> bool:
        """Whether a job was given to workers that were dead, which nobody knew yet.

        Those of each node of a block take a job like that once; more often there is another cause.
        """
        most = self._options.max_blocks * self._options.nodes_per_block
        return _is_lost(out.future) and begun == out.begun and out.never_begun < most

    def _judged(
        self, job: Job, report: JobReport
    ) -> tuple[tuple[ReferenceResult, float] | None, str]:
        if report.result is None:
            return None, report.why
        engine = self._engines[job.system]
        result = parsed_result(report.result, engine, job.key, len(job.positions))
        return result, "its result cannot be read"

    def _check(self) -> None:
        problem = self._jobs.problem() if self._jobs is not None else None
        if problem is not None:
            raise EngineError(
                f"cluster: {problem}\nSee {self._folder / 'parsl'} and ACTIVE_LEARNING.cluster"
            )


def _started(options: ClusterOptions, folder: Path) -> ParslJobs:
    problem = parsl_problem()
    if problem is not None:
        raise EngineError(f"ACTIVE_LEARNING.cluster {problem}")
    from fhi_al.labels.cluster.parsl import ParslJobs

    try:
        return ParslJobs(options, folder)
    except Exception as error:  # ports, certificates, folders: whatever Parsl may meet
        raise EngineError(
            f"cluster: Parsl does not start: {type(error).__name__}: {error}"
        ) from error


def _report(future: Future[JobReport]) -> JobReport:
    """The report of an attempt, in words also where Parsl has none."""
    error = future.exception()
    if error is None:
        return future.result()
    lost = f"its worker was lost: {error}"
    message = lost if _is_lost(future) else f"{type(error).__name__}: {error}"
    return JobReport(None, message, "", 0.0)


def _is_lost(future: Future[JobReport]) -> bool:
    return type(future.exception()).__name__ in ("ManagerLost", "WorkerLost")
