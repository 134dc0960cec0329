"""A crystal at constant pressure: its cell moves in the sampling and in active learning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folder import (
    SHORT,
    assert_same_end,
    copy_of,
    kill_all,
    labels,
    run,
    start,
    succeed,
    wait_for_labels,
    write_inputs,
)

pytestmark = [pytest.mark.mpi, pytest.mark.real]

COPPER = """\
lattice_vector 3.61 0 0
lattice_vector 0 3.61 0
lattice_vector 0 0 3.61
atom_frac 0 0 0 Cu
atom_frac 0 0.5 0.5 Cu
atom_frac 0.5 0 0.5 Cu
atom_frac 0.5 0.5 0 Cu
"""
NPT = {
    "stat_ensemble": "NPT",
    "pressure": 20.0,
    "compressibility": 0.007,
    "timestep": 2.0,
    "temperature": 300,
}
EMT = {"reference_engine": "ase", "reference_calculator": "ase.calculators.emt.EMT"}
STRESS = {"GENERAL": {"compute_stress": True}, "TRAINING": {"loss": "stress"}}


def folder_of(path: Path, geometry: str = COPPER, mace: Any = STRESS, **md: Any) -> Path:
    folder = write_inputs(
        path,
        geometry=geometry,
        mace=mace,
        active_learning={"ACTIVE_LEARNING": SHORT | EMT | {"max_MD_steps": 20}, "MD": NPT | md},
    )
    settings = folder / "active_learning_settings.yaml"
    settings.write_text(settings.read_text().replace("  reference_method: GFN2-xTB\n", ""))
    return folder


def volumes(folder: Path, phase: str) -> np.ndarray:
    found = [one["cell"] for one in labels(folder) if one["origin"]["phase"] == phase]
    return np.abs(np.linalg.det(np.array(found)))


@pytest.mark.parametrize("barostat", ["CellRescaling", "MTKFlexible"])
def test_a_run_at_constant_pressure_killed_and_continued_ends_the_same(
    tmp_path: Path, barostat: str
) -> None:
    time = 300.0 if barostat == "MTKFlexible" else 50.0
    whole = folder_of(tmp_path / "whole", barostat=barostat, barostat_time=time, friction=0.02)
    killed = copy_of(whole, tmp_path / "killed")
    succeed(whole)
    initial, cells = volumes(whole, "initial"), [one["cell"] for one in labels(whole)]
    assert initial[0] == pytest.approx(3.61**3)
    assert len({str(cell) for cell in cells}) == len(cells) > 16
    # 20 GPa press copper together, by a tenth in the end.
    assert initial[-1] < 0.995 * initial[0]
    sheared = np.abs(np.array(cells)[:, 0, 1]).max() > 1e-6
    assert sheared == (barostat == "MTKFlexible")
    job = start(killed, 1)
    wait_for_labels(job, killed, len(labels(whole)) - 2)
    kill_all(job)
    succeed(killed)
    assert_same_end(killed, whole)


def test_a_cell_that_moves_needs_a_stress_and_no_fixed_atoms(tmp_path: Path) -> None:
    fixed = COPPER.replace("0 0 0 Cu\n", "0 0 0 Cu\nconstrain_relaxation .true.\n", 1)
    folder = folder_of(tmp_path / "run", geometry=fixed, mace={})
    code, output = run(folder, 1, "--check")
    assert code == 2
    assert "MD.stat_ensemble = NPT: needs the stress" in output
    assert "has atoms fixed by constrain_relaxation, which would not move with the cell" in output
