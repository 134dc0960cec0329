"""Labels on blocks of the tests' Slurm: begun, found under way, waited for, counted."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from real.cluster_parts import calls, failing_spec
from slurm.one_machine import LIMIT_S, OneMachineSlurm

from fhi_al.engines.engine import ReferenceResult
from fhi_al.labels.cluster.cluster import ClusterWorkers
from fhi_al.labels.cluster.options import ClusterOptions
from fhi_al.labels.workers import Finished, Job

OPTIONS = ClusterOptions(
    provider="slurm",
    workers_per_node=2,
    nodes_per_block=1,
    max_blocks=2,
    # Half an hour in Slurm's whole minutes.
    walltime_s=1770,
    job_timeout_s=600.0,
    lost_after_s=8,
    exclusive=False,
    partition="short",
    account="physics",
    scheduler_options="#SBATCH --comment=labels",
    worker_init="export FROM_WORKER_INIT=1",
)


@dataclass
class Labels:
    """Workers, and what has come from them so far."""

    workers: ClusterWorkers
    folder: Path
    done: dict[str, Finished] = field(default_factory=dict)

    def begin(self, *jobs: Job) -> None:
        for each in jobs:
            self.done.pop(each.key, None)
            self.workers.begin(each)

    def collect(self) -> None:
        """As a run does all the time: a label whose worker is lost is tried again here."""
        for finished in self.workers.collect():
            assert finished.key not in self.done
            self.done[finished.key] = finished
        time.sleep(0.05)

    def results(self, *jobs: Job) -> list[ReferenceResult]:
        """Wait for jobs; the results, all of which must have converged."""
        end = time.monotonic() + LIMIT_S
        while missing := {each.key for each in jobs} - self.done.keys():
            assert time.monotonic() < end, f"{len(missing)} of {len(jobs)} labels never came"
            self.collect()
        results = [self.done[each.key].result for each in jobs]
        converged = [r for r in results if isinstance(r, ReferenceResult) and r.converged]
        assert len(converged) == len(jobs), results
        return converged

    def n_calls(self, *jobs: Job) -> list[int]:
        """How often each job was computed."""
        made = Counter(calls(self.folder))
        return [made[round(float(each.positions[0, 0]), 6)] for each in jobs]

    def under_way(self, each: Job) -> psutil.Process:
        """The process that computes a job, once the calculator is at it."""
        end = time.monotonic() + LIMIT_S
        place = str(self.folder / "cluster" / each.key)
        while True:
            for process in psutil.process_iter() if self.n_calls(each)[0] else ():
                try:
                    if process.cwd().startswith(place):
                        return process
                except psutil.Error:
                    continue
            assert time.monotonic() < end, "the job never began"
            self.collect()


@contextlib.contextmanager
def labels_on(folder: Path, options: ClusterOptions) -> Iterator[Labels]:
    """Workers for the failing calculator, whose files are in a folder; closed at the end."""
    workers = ClusterWorkers([failing_spec(folder)], options, folder / "cluster")
    try:
        yield Labels(workers, folder)
    finally:
        workers.close()


def block_of(process: psutil.Process) -> int:
    return int(process.environ()["SLURM_JOB_ID"])


def blocks(slurm: OneMachineSlurm, comment: str) -> set[int]:
    """The blocks that have this among their options, also those that have ended."""
    return {number for number, known in slurm.jobs().items() if known.get("Comment") == comment}
