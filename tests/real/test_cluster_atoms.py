"""The isolated atoms, where FHI-aims is an executable on a cluster."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from cluster_parts import processes_of
from test_aims_executable import CONTROL, FAKE, WATER

from fhi_al.app import atomic_energies
from fhi_al.app.isolated_atoms import read_atomic_energies
from fhi_al.app.process_set_up import process_set_up

pytestmark = pytest.mark.real


def test_isolated_atoms_are_computed_as_jobs(tmp_path: Path) -> None:
    command = shlex.join([sys.executable, str(FAKE), "atom"])
    (tmp_path / "geometry.in").write_text(WATER)
    (tmp_path / "control.in").write_text(CONTROL.format(k_grid=""))
    (tmp_path / "active_learning_settings.yaml").write_text(
        "ACTIVE_LEARNING:\n  max_set_size: 50\n  parallel: true\n"
        f"  cluster:\n    aims_command: {command}\n"
    )
    assert "control.in of H:" in atomic_energies.checked(tmp_path, None)
    with process_set_up() as process:
        atomic_energies.compute(tmp_path, None, process)
    energies = read_atomic_energies(tmp_path / "atomic_energies.yaml")
    assert set(energies) == {1, 8}
    assert energies[8] < energies[1] < 0.0  # eV
    control = next(tmp_path.glob("cluster/atoms/*/attempt_1/control.in")).read_text()
    assert "spin collinear" in control and "compute_forces .true." in control
    assert not processes_of(tmp_path)
