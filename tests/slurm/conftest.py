"""A real Slurm for the tests of this folder, started when the first of them needs it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from slurm.one_machine import OneMachineSlurm, what_is_missing


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneMachineSlurm]:
    """Two nodes; the tests that ask for it are skipped where there can be no Slurm."""
    missing = what_is_missing()
    if missing is not None:
        pytest.skip(missing)
    with OneMachineSlurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running
