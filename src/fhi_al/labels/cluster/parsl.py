"""Parsl: blocks of workers on this machine or from Slurm, and functions run on them.

The only import of parsl.  Knows nothing of labels.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from parsl.app.app import python_app
from parsl.config import Config
from parsl.dataflow.dflow import DataFlowKernel
from parsl.executors import HighThroughputExecutor
from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD
from parsl.jobs.error_handlers import windowed_error_handler
from parsl.launchers import SimpleLauncher, SrunLauncher
from parsl.providers import LocalProvider, SlurmProvider
from parsl.providers.base import ExecutionProvider

from fhi_al.labels.cluster.options import ClusterOptions
from fhi_al.labels.cluster.processes import (
    GRACE_S,
    end_processes,
    family,
    launcher_variables,
)
from fhi_al.labels.cluster.worker import JobOrder, JobReport, run_job

log = logging.getLogger(__name__)

LABEL = "labels"
STRATEGY_PERIOD_S = 1
SLURM_COMMAND_TIMEOUT_S = 60
BEATS_PER_THRESHOLD = 4
PARSL = "parsl.executors.high_throughput"
# Before a block's time is up: what its workers need to report and to end.
DRAIN_MARGIN_S = 60


class _Looks:
    """How often a provider looks at its blocks.

    Parsl's periods (Slurm: a minute) would be how long a label waits for a new block after its own
    was lost, however soon the loss of the workers is noticed.
    """

    look_every_s: int

    @property
    def status_polling_interval(self) -> int:
        """Seconds between two looks."""
        return self.look_every_s


class _Local(_Looks, LocalProvider):
    look_every_s = 5


class _Slurm(_Looks, SlurmProvider):
    """Submits jobs that do not take themselves for a part of the job the driver runs in."""

    look_every_s = 60

    def execute_wait(self, cmd: str, timeout: float | None = None) -> tuple[int, str, str]:
        """Run one of Slurm's commands; exit code, output and errors."""
        unset = " ".join(f"-u {name}" for name in launcher_variables(os.environ, slurm=True))
        done: tuple[int, str, str] = super().execute_wait(f"env {unset} {cmd}", timeout)
        if done[0] != 0 and cmd.startswith("squeue") and "Invalid job id" in done[2]:
            # squeue has no such job when the only one asked for ended a while ago (MinJobAge):
            # Parsl would take the failure for that of squeue and the block for a running one.
            return 0, "", ""
        return done


class ParslJobs:
    """Runs jobs on Parsl's workers.

    Blocks are asked for when there is work, and again when one is lost or its time is up.

    Parameters
    ----------
    options : ClusterOptions
    folder : Path
        For Parsl's own files; each instance makes a numbered folder in it.
    """

    def __init__(self, options: ClusterOptions, folder: Path) -> None:
        self._executor = _executor(options)
        self._parsl = DataFlowKernel(
            Config(
                executors=[self._executor],
                run_dir=str(folder),
                initialize_logging=False,
                # Not "htex_auto_scale": where a block has more places than there are jobs it asks
                # for 0 blocks fewer, and Parsl 2026.10 then cancels every block that has not yet
                # come up, over and over again.
                strategy="simple",
                strategy_period=STRATEGY_PERIOD_S,
                max_idletime=options.idle_time_s,
            )
        )
        self._run = python_app(run_job, data_flow_kernel=self._parsl, executors=[LABEL])
        self._is_open = True

    def submit(self, order: JobOrder) -> Future[JobReport]:
        """Queue a job; the future holds its report, or an exception if its worker was lost."""
        future: Future[JobReport] = self._run(order)
        return future

    def problem(self) -> str | None:
        """Why no job can be run any more; None if nothing says so."""
        if self._executor.bad_state_is_set:
            return f"blocks of workers fail again and again:\n{self._executor.executor_exception}"
        interchange = self._executor.interchange_proc
        if interchange is not None and interchange.poll() is not None:
            return f"Parsl's interchange has ended with exit code {interchange.returncode}"
        return None

    def close(self) -> None:
        """End all workers and give the blocks back; jobs under way are given up."""
        if not self._is_open:
            return
        self._is_open = False
        processes = self._local_processes()
        try:
            self._parsl.cleanup()
        finally:
            # Whoever ignored the request of the provider, or was between two processes.
            end_processes(processes, GRACE_S)

    def _local_processes(self) -> list[Any]:
        provider = self._executor.provider
        if not isinstance(provider, LocalProvider):
            return []
        running = [b for b in provider.resources.values() if not b["status"].terminal]
        return [process for block in running for process in family(int(block["remote_pid"]))]


def _executor(options: ClusterOptions) -> HighThroughputExecutor:
    # By the path of this Python: whether an environment is activated must not matter.
    python = f"{shlex.quote(sys.executable)} -P -m"
    launch = DEFAULT_LAUNCH_CMD.replace(
        "process_worker_pool.py", f"{python} {PARSL}.process_worker_pool", 1
    )
    guard = [sys.executable, "-P", "-m", "fhi_al.labels.cluster.guard"]
    local = options.provider == "local"
    return HighThroughputExecutor(
        label=LABEL,
        provider=_local(options) if local else slurm_provider(options),
        launch_cmd=launch,
        interchange_launch_cmd=[*guard, str(os.getpid()), f"{PARSL}.interchange"],
        address="127.0.0.1" if local else None,
        max_workers_per_node=options.workers_per_node,
        # Parsl lowers the number of workers to cores / cores_per_worker.  What the user says holds.
        cores_per_worker=1e-6,
        heartbeat_threshold=options.lost_after_s,
        heartbeat_period=_heartbeat_s(options),
        drain_period=None if local else _drain_period(options),
        # One block that fails is bad luck (a node, a time limit), three in a row are a cause.
        block_error_handler=windowed_error_handler,
        encrypted=True,
    )


def _heartbeat_s(options: ClusterOptions) -> int:
    return max(1, options.lost_after_s // BEATS_PER_THRESHOLD)


def _drain_period(options: ClusterOptions) -> int:
    """Seconds after which a block takes no more jobs, since one might not end in time."""
    return max(1, int(options.walltime_s - options.job_timeout_s - DRAIN_MARGIN_S))


def _local(options: ClusterOptions) -> ExecutionProvider:
    unset = launcher_variables(os.environ)
    lines = [f"unset {' '.join(unset)}"] if unset else []
    local = _Local(
        init_blocks=0,
        min_blocks=0,
        max_blocks=options.max_blocks,
        worker_init="\n".join([*lines, options.worker_init]),
        launcher=SimpleLauncher(),
    )
    local.look_every_s = min(local.look_every_s, _heartbeat_s(options))
    return local


def slurm_provider(options: ClusterOptions) -> SlurmProvider:
    """Blocks from Slurm.

    Parameters
    ----------
    options : ClusterOptions

    Returns
    -------
    SlurmProvider
    """
    single = options.launcher == "single"
    # Of seconds Parsl would make fewer minutes (of less than one 0, which is no limit at all).
    hours, minutes = divmod(options.walltime_minutes, 60)
    # Of a node that it shares a block gets the cores that it asks for, else one.  The user's lines
    # come later: of two that say the same Slurm takes the last.
    cores = options.workers_per_node * options.cores_per_worker
    asked = [] if options.exclusive else [f"#SBATCH --cpus-per-task={cores}"]
    given: dict[str, Any] = {
        "partition": options.partition,
        "account": options.account,
        "exclusive": options.exclusive,
        "scheduler_options": "\n".join([*asked, options.scheduler_options]),
        "worker_init": options.worker_init,
    }
    slurm = _Slurm(
        init_blocks=0,
        min_blocks=0,
        max_blocks=options.max_blocks,
        nodes_per_block=options.nodes_per_block,
        # Parsl counts workers on all nodes of a block; with "single" they are on one only.
        parallelism=options.nodes_per_block if single else 1,
        walltime=f"{hours:02d}:{minutes:02d}:00",
        cmd_timeout=SLURM_COMMAND_TIMEOUT_S,
        launcher=SimpleLauncher() if single else SrunLauncher(),
        **given,
    )
    slurm.look_every_s = min(slurm.look_every_s, _heartbeat_s(options))
    return slurm
