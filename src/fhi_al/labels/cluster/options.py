"""How labels are spread over a cluster, as plain data.  Imports no Parsl."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ClusterOptions:
    """Blocks of workers and the jobs they take; the keys of ``ACTIVE_LEARNING.cluster``.

    Parameters
    ----------
    provider : {"local", "slurm"}
        Workers on this machine, or in jobs of Slurm ("blocks").
    max_jobs : int or None
        Labels that may be out at once; None: as many as there can be workers.
    workers_per_node, nodes_per_block, max_blocks : int
    cores_per_worker : int
        Threads of one label.
    launcher : {"single", "srun"}
        Workers on the first node of a block only, which the label's own command spreads over all
        of them; or workers on every node.
    walltime_s : int
        Of a block.
    partition, account : str or None
    exclusive : bool
        Whole nodes.
    scheduler_options : str
        Lines ``#SBATCH ...``.
    worker_init : str
        Shell commands before the workers start.
    job_timeout_s : float
        A label that takes longer is killed.
    attempts : int
        How often a label is tried.
    lost_after_s : int
        Without a sign of life for so long a block's workers count as lost.
    idle_time_s : float
        Without any work for so long the blocks are given back.
    """

    provider: Literal["local", "slurm"] = "local"
    max_jobs: int | None = None
    workers_per_node: int = 1
    cores_per_worker: int = 1
    nodes_per_block: int = 1
    max_blocks: int = 1
    launcher: Literal["single", "srun"] = "single"
    walltime_s: int = 14400
    partition: str | None = None
    account: str | None = None
    exclusive: bool = True
    scheduler_options: str = ""
    worker_init: str = ""
    job_timeout_s: float = 3600.0
    attempts: int = 3
    lost_after_s: int = 120
    idle_time_s: float = 300.0

    @property
    def walltime_minutes(self) -> int:
        """`walltime_s` as Slurm counts it, in whole minutes: never less than was asked for."""
        return -(-self.walltime_s // 60)

    @property
    def most_jobs(self) -> int:
        """Labels that may be out at once."""
        if self.max_jobs is not None:
            return self.max_jobs
        nodes = self.nodes_per_block if self.launcher == "srun" else 1
        return self.workers_per_node * nodes * self.max_blocks
