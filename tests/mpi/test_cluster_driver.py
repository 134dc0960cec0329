"""The driver of jobs on a cluster is a rank of an MPI job; its jobs are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from asi.harness import SCRIPTS, SOURCE, run_mpi

pytestmark = [pytest.mark.mpi, pytest.mark.real]


@pytest.mark.parametrize("ranks", [1, 2])
def test_jobs_of_a_driver_under_mpirun_stand_alone(ranks: int, tmp_path: Path) -> None:
    places = {"PYTHONPATH": f"{SOURCE}:{SCRIPTS}"}
    job = run_mpi("cluster_labels.py", ranks, tmp_path, env=places)
    assert job.exit_code == 0, job.output
    energy, world_size, expected = job.result
    assert energy == expected
    assert world_size == 1.0, "a job was told that it belongs to the driver's"
