"""``md_dtype: float32`` moves atoms with float32; the errors reported stay those of float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from mace.calculators import MACECalculator
from run_folder import journal, labels, succeed, write_inputs

from fhi_al.active_learning.held_out_errors import SANITY

pytestmark = [pytest.mark.mpi, pytest.mark.real]

# Errors in eV/A and eV per atom.  MACE's own calculator sums in another order than ours: the last
# bits of float64 differ; float32 forces are off by some 1e-7.
SAME = 1e-11


def test_errors_of_a_run_whose_md_is_float32_are_those_of_its_float64_models(
    tmp_path: Path,
) -> None:
    changes = {
        "md_dtype": "float32",
        "c_x": -50.0,  # nothing crosses: the models stay as the initial phase has left them
        "converge_al": False,
        "test_ratio": 0.3,
    }
    folder = write_inputs(
        tmp_path / "run", active_learning={"ACTIVE_LEARNING": changes}, models="mace"
    )
    succeed(folder, 1)
    paths = sorted(str(path) for path in (folder / "model").glob("*.model"))
    calculator = MACECalculator(model_paths=paths, device="cpu", default_dtype="float64")
    stored = {(one["origin"]["trajectory"], one["origin"]["step"]): one for one in labels(folder)}
    checks = journal(folder, "sanity")
    assert len(checks) >= 4
    differences = []
    for check in checks:
        label = stored[check["trajectory"], check["md_step"]]
        atoms = Atoms(label["numbers"], label["positions"], calculator=calculator)
        difference = atoms.get_forces() - np.array(label["forces"])
        assert check["mae_forces"] == pytest.approx(np.abs(difference).mean(), abs=SAME)
        differences.append([difference, (atoms.get_potential_energy() - label["energy"]) / 3])
    (reported,) = (
        entry
        for entry in journal(folder, "test")
        if (entry["model"], entry["phase"], entry["points"]) == ("ensemble_mean", "final", SANITY)
    )
    assert reported["n_points"] == len(checks)
    forces = np.abs([each for each, _ in differences]).mean()
    assert reported["mae_forces"] == pytest.approx(forces, abs=SAME)
    energies = np.abs([each for _, each in differences]).mean()
    assert reported["mae_energy_per_atom"] == pytest.approx(energies, abs=SAME)
