"""Checks of ``ACTIVE_LEARNING.cluster``, as far as this machine can tell.  Runs nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from fhi_al.labels.cluster.cluster import parsl_problem
from fhi_al.settings import Settings

CLUSTER = "ACTIVE_LEARNING.cluster"


def cluster_problems(settings: Settings) -> Iterator[str]:
    """What is wrong with the cluster, as far as this machine can tell."""
    given = settings.al.cluster
    if given is None:
        return
    problem = parsl_problem()
    if problem is not None:
        yield str(settings.problem("active_learning", CLUSTER, problem))
    if given.provider == "slurm" and shutil.which("sbatch") is None:
        message = "there is no sbatch here: expected a machine that can submit jobs to Slurm"
        yield str(settings.problem("active_learning", f"{CLUSTER}.provider", message))
