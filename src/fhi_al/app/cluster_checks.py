"""Checks of ``ACTIVE_LEARNING.cluster``, as far as this machine can tell.  Runs nothing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from fhi_al.labels.cluster.cluster import parsl_problem
from fhi_al.settings import Settings

CLUSTER = "ACTIVE_LEARNING.cluster"
# What a shell takes for more than a part of a name: Parsl's commands have paths as they are.
NO_NAME = re.compile(r"[\s\"'`$&|;<>()*?#!{}\[\]\\]")


def cluster_problems(folder: Path, settings: Settings) -> Iterator[str]:
    """What is wrong with the cluster, as far as this machine can tell.

    Parameters
    ----------
    folder : Path
        Of the run.
    settings : Settings
    """
    given = settings.al.cluster
    if given is None:
        return
    path = str(folder.resolve())
    found = NO_NAME.search(path)
    if found is not None:
        message = (
            f"blocks cannot be started in {path}: expected a path without spaces and other"
            f" characters that a shell has a use for, found {found[0]!r}. Rename or move the folder"
        )
        yield str(settings.problem("active_learning", CLUSTER, message))
    problem = parsl_problem()
    if problem is not None:
        yield str(settings.problem("active_learning", CLUSTER, problem))
    if given.provider == "slurm" and shutil.which("sbatch") is None:
        message = "there is no sbatch here: expected a machine that can submit jobs to Slurm"
        yield str(settings.problem("active_learning", f"{CLUSTER}.provider", message))
