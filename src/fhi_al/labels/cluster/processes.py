"""Processes that must not outlive those they work for, and what they must not inherit.

Imports the standard library only, psutil late: every worker of a cluster loads this.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

# What an MPI launcher tells the processes it starts.  A program that inherits it takes itself for
# one of them and waits in MPI_Init for the others.
_LAUNCHED = re.compile(
    r"^(PMI_|PMIX_|PMI2_|PALS_|PRTE_|HYDI_|HYDRA_|OMPI_|MPI_|MPIEXEC_|MPIR_|I_MPI_HYDRA_)"
)
# Of these, what a step of Slurm or mpirun sets; the others may be a site's own settings.
_STEP = re.compile(r"^(PMI_|PMIX_|PMI2_|PALS_|HYDI_|OMPI_COMM_WORLD_|OMPI_MCA_(ess|orte)_)")
# A job that we submit from inside another job is not a part of that one.
_SLURM = re.compile(r"^SLURM_(?!CONF$)")
POLL_S = 0.5
GRACE_S = 5.0


def launcher_variables(environment: Mapping[str, str], *, slurm: bool = False) -> list[str]:
    """Names of the variables an MPI launcher (with ``slurm``, or Slurm) has set."""
    names = [name for name in environment if re.fullmatch(r"\w+", name)]
    return [n for n in names if _LAUNCHED.match(n) or (slurm and _SLURM.match(n))]


def step_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a program that is not a process of the MPI job around it."""
    return {name: value for name, value in environment.items() if not _STEP.match(name)}


def end_with(parent: int) -> None:
    """End this process, and all it has started, as soon as its parent is gone.

    Parameters
    ----------
    parent : int
        Process id of the parent, from itself: it may be gone already.
    """
    threading.Thread(target=_watch, args=(parent,), daemon=True, name="watch-parent").start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_S)
    end_processes(family(os.getpid())[1:], grace_s=0.0)
    os._exit(1)


def family(pid: int) -> list[Any]:
    """A process and those it has started, and so on; empty if it is gone.

    Returns
    -------
    list of psutil.Process
        Which know a process from another one that got its number later.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def end_processes(processes: Sequence[Any], grace_s: float = GRACE_S) -> None:
    """End processes of :func:`family`: ask, and kill those that are there after the grace.

    A launcher that is asked (srun, mpirun) ends what it has started on other nodes, too.
    """
    import psutil

    if grace_s > 0:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        end = time.monotonic() + grace_s
        while any(_runs(process) for process in processes) and time.monotonic() < end:
            time.sleep(0.05)
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _runs(process: Any) -> bool:
    import psutil

    try:
        # Where nobody collects the dead (a container without an init) they stay as zombies.
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
