"""From ``ACTIVE_LEARNING.cluster`` to what its jobs need, and what is wrong with it.

Runs nothing.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fhi_al import preflight
from fhi_al.aims.engine_input import engine_input
from fhi_al.reference.cluster import parsl_problem
from fhi_al.reference.cluster_options import ClusterOptions
from fhi_al.reference.spec import AimsCommandSpec, AseSpec, ClusterSpec
from fhi_al.settings import Settings

CLUSTER = "ACTIVE_LEARNING.cluster"


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


def cluster_specs(folder: Path, settings: Settings, inputs: preflight.Inputs) -> list[ClusterSpec]:
    """What a job needs to compute a structure of each system; ``cluster`` must be given."""
    if inputs.control is None:
        specs: list[ClusterSpec] = []
        for spec in preflight.engine_specs(folder, settings, inputs):
            assert isinstance(spec, AseSpec)
            # A job has no predecessor whose density it could start from.
            specs.append(replace(spec, cold_start=True))
        return specs
    species = preflight.species_dir(settings)
    return [
        AimsCommandSpec(
            command=aims_command(settings),
            control=engine_input(inputs.control, geometry, species, stress=False).text,
            geometry=geometry,
        )
        for geometry in inputs.geometries
    ]


def aims_command(settings: Settings) -> tuple[str, ...]:
    """What runs FHI-aims, word by word; ``cluster.aims_command`` must be given."""
    given = settings.al.cluster
    assert given is not None and given.aims_command is not None
    return tuple(shlex.split(given.aims_command))


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
    if given.aims_command is not None:
        # Where blocks run elsewhere, or load modules first, another PATH holds.
        here = given.provider == "local" and not given.worker_init
        problem = command_problem(given.aims_command, here=here)
        if problem is not None:
            yield str(settings.problem("active_learning", f"{CLUSTER}.aims_command", problem))


def command_problem(command: str, *, here: bool) -> str | None:
    """Why a command cannot be run; None if nothing says so.

    Parameters
    ----------
    command : str
    here : bool
        It runs on this machine, with this PATH: its program must be there.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        return f"cannot be taken apart ({error}): expected a program and its arguments"
    if not words:
        return "is empty: expected a program and its arguments"
    program = Path(words[0])
    if len(program.parts) > 1 and not program.is_absolute():
        return "its program is a relative path: it runs in a folder of its own. Give the whole path"
    if not here:
        return None
    if shutil.which(words[0]) is None:
        return f"there is no program {words[0]} that can be run. Correct the path, or the PATH"
    for word in words[1:]:
        if Path(word).is_absolute() and not Path(word).exists():
            return f"there is no {word}. Correct the path"
    return None
