"""A real Slurm for the tests of this folder, started when the first of them needs it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from real.cluster_parts import python_path
from slurm.one_machine import OneMachineSlurm, what_is_missing


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneMachineSlurm]:
    """Four nodes; the tests that ask for it are skipped where there can be no Slurm."""
    missing = what_is_missing()
    if missing is not None:
        pytest.skip(missing)
    with OneMachineSlurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(scope="module")
def environment(slurm: OneMachineSlurm) -> Iterator[None]:
    """What submits the blocks has been started by an MPI launcher in a job of Slurm."""
    with pytest.MonkeyPatch.context() as patch:
        variables = {**slurm.environment, "PYTHONPATH": python_path()}
        for name, value in {**variables, "SLURM_NTASKS": "3", "PMI_RANK": "1"}.items():
            patch.setenv(name, value)
        yield
