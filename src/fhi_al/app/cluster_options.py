"""From ``ACTIVE_LEARNING.cluster`` to what its jobs need.  Runs nothing."""

from __future__ import annotations

from fhi_al.labels.cluster.options import ClusterOptions
from fhi_al.settings import Settings


def cluster_options(settings: Settings) -> ClusterOptions:
    """How the labels are spread; ``cluster`` must be given."""
    given = settings.al.cluster
    assert given is not None
    return ClusterOptions(
        provider=given.provider,
        max_jobs=given.max_jobs,
        workers_per_node=given.workers_per_node,
        cores_per_worker=given.cores_per_worker,
        nodes_per_block=given.nodes_per_block if given.provider == "slurm" else 1,
        max_blocks=given.max_blocks,
        launcher=given.launcher if given.provider == "slurm" else "single",
        walltime_s=given.walltime_s,
        partition=given.partition,
        account=given.account,
        exclusive=given.exclusive,
        scheduler_options=given.scheduler_options,
        worker_init=given.worker_init,
        job_timeout_s=given.job_timeout,
        attempts=given.attempts,
        lost_after_s=given.lost_after,
        idle_time_s=given.idle_time,
    )
