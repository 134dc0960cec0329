"""From ``ACTIVE_LEARNING.cluster`` to what its jobs need.  Runs nothing."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from fhi_al.app import checks
from fhi_al.engines.aims_input.engine_input import engine_input
from fhi_al.engines.spec import AimsCommandSpec, AseSpec, ClusterSpec
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


def cluster_specs(folder: Path, settings: Settings, inputs: checks.Inputs) -> list[ClusterSpec]:
    """What a job needs to compute a structure of each system; ``cluster`` must be given."""
    if inputs.control is None:
        specs: list[ClusterSpec] = []
        for spec in checks.engine_specs(folder, settings, inputs):
            assert isinstance(spec, AseSpec)
            # A job has no predecessor whose density it could start from.
            specs.append(replace(spec, cold_start=True))
        return specs
    species = checks.species_dir(settings)
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
