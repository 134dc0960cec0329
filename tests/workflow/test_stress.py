"""Stress from end to end: engine, store, losses, errors, exports; what decides, what is refused."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones
from mace.data.utils import KeySpecification, config_from_atoms
from run_folder import (
    SMALLEST,
    journal,
    kill_all,
    run,
    start,
    succeed,
    wait_for_labels,
    write_inputs,
)
from tblite.ase import TBLite

pytestmark = [pytest.mark.mpi, pytest.mark.real]

MACE_FILE, AL_FILE = "mace_settings.yaml", "active_learning_settings.yaml"
LATTICE = 3.6
CRYSTAL = f"""\
lattice_vector {LATTICE} 0 0
lattice_vector 0 {LATTICE} 0
lattice_vector 0 0 {LATTICE}
atom_frac 0.0 0.0 0.0 Cu
atom_frac 0.5 0.5 0.02 Cu
atom_frac 0.5 0.01 0.5 Cu
atom_frac 0.0 0.5 0.5 Cu
"""
PAIRS: dict[str, Any] = {"sigma": 2.3, "epsilon": 0.4, "rc": 6.0, "smooth": True}
ENGINE: dict[str, Any] = {
    "reference_engine": "ase",
    "reference_calculator": "ase.calculators.lj.LennardJones",
    "reference_arguments": PAIRS,
}
STRESS = {
    "GENERAL": {"compute_stress": True},
    "TRAINING": {"loss": "stress", "stress_weight": 100.0},
    "MISC": {"error_table": "PerAtomMAEstressvirials"},
}


def inputs(folder: Path, mace: dict[str, Any] | None = None, **al: Any) -> Path:
    """A crystal of pairs by ASE's calculator."""
    write_inputs(
        folder,
        geometry=CRYSTAL,
        mace=STRESS if mace is None else mace,
        active_learning={"ACTIVE_LEARNING": {**SMALLEST, **ENGINE, **al}},
    )
    text = (folder / AL_FILE).read_text()
    (folder / AL_FILE).write_text(text.replace("  reference_method: GFN2-xTB\n", ""))
    return folder


def labels_of(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "restart" / "labels.jsonl").read_text().splitlines()
    return [json.loads(line)["label"] for line in lines]


def true_stress(label: dict[str, Any]) -> np.ndarray:
    atoms = Atoms(label["numbers"], label["positions"], cell=label["cell"], pbc=True)
    atoms.calc = LennardJones(**PAIRS)
    return np.asarray(atoms.get_stress(voigt=False))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run with stress, and its output."""
    more = {"analysis": True, "sanity_skip": 5, "test_ratio": 0.3, "max_MD_steps": 20}
    folder = inputs(tmp_path_factory.mktemp("stress") / "run", num_trajectories=2, **more)
    return folder, succeed(folder)


def test_every_label_has_the_stress_of_its_structure(finished: tuple[Path, str]) -> None:
    labels = labels_of(finished[0])
    assert len(labels) > 10
    for label in labels:
        assert np.abs(np.array(label["stress"]) - true_stress(label)).max() < 1e-12  # eV/A^3
    assert max(np.abs(label["stress"]).max() for label in labels) > 1e-3


def test_exports_hold_the_stress_as_mace_reads_it(finished: tuple[Path, str]) -> None:
    keys = KeySpecification(
        info_keys={"energy": "REF_energy", "stress": "REF_stress"},
        arrays_keys={"forces": "REF_forces"},
    )
    frames = ase.io.read(finished[0] / "data" / "final" / "training" / "combined.xyz", ":")
    stored = {label["energy"]: label for label in labels_of(finished[0])}
    assert frames
    for atoms in frames:
        label = stored[atoms.info["REF_energy"]]
        config = config_from_atoms(atoms, keys)
        assert config.property_weights["stress"] == 1.0
        assert np.abs(config.properties["stress"] - np.array(label["stress"])).max() < 1e-7


def test_errors_of_the_stress_are_in_tables_log_and_summary(finished: tuple[Path, str]) -> None:
    folder, output = finished
    results = folder / "results"
    of_members = [row for path in results.glob("water_*_errors.csv") for row in rows_of(path)]
    for row in (*of_members, *rows_of(results / "test_errors.csv")):
        if row["mae_forces"]:
            assert 0 < float(row["mae_stress"]) <= float(row["rmse_stress"])
    sanity = rows_of(folder / "analysis" / "sanity_checks.csv")
    assert sanity and all(float(row["mae_stress"]) > 0 for row in sanity)
    checks = rows_of(folder / "analysis" / "uncertainty_history.csv")
    assert checks and all(float(row["stress_uncertainty"]) > 0 for row in checks)
    assert all(row["stress_threshold"] == "" for row in checks)
    assert "of the stress" in output and "meV/A^3 on" in output
    assert "stress MAE" in output


def test_the_final_test_measures_the_stress(tmp_path: Path) -> None:
    folder = inputs(tmp_path / "run", final_test=1)
    text = (folder / AL_FILE).read_text()
    # Fewer steps for the same time.
    (folder / AL_FILE).write_text(text.replace("timestep: 0.5", "timestep: 2.5"))
    output = succeed(folder)
    (row,) = rows_of(folder / "results" / "final_test.csv")
    assert 0 < float(row["mae_stress"]) < 1  # eV/A^3
    # Drawn in proportion to its uncertainty, a structure counts in proportion to its inverse.
    weight = float(row["mean_uncertainty"]) / float(row["uncertainty"])
    (told,) = re.findall(r"summary: true errors .*, stress ([\d.]+) meV/A\^3 on 1", output)
    assert float(told) == pytest.approx(1000 * weight * float(row["mae_stress"]), abs=0.006)


def test_the_final_test_at_constant_volume_does_not_start_from_strained_cells(
    tmp_path: Path,
) -> None:
    displaced = {"rattled": 1, "strained": 3, "strain": 0.03}
    folder = inputs(
        tmp_path / "run",
        initial_sampling="displaced",
        displaced=displaced,
        max_initial_epochs=1,
        c_x=-1000.0,
        final_test=1,
    )
    text = (folder / AL_FILE).read_text()
    (folder / AL_FILE).write_text(text.replace("timestep: 0.5", "timestep: 2.5"))
    succeed(folder)
    cell = LATTICE * np.eye(3)
    strained = [label for label in labels_of(folder) if not np.allclose(label["cell"], cell)]
    assert len(strained) >= 3
    tested = [label for label in labels_of(folder) if label["origin"]["phase"] == "test"]
    assert len(tested) == 1
    np.testing.assert_array_equal(tested[0]["cell"], cell)


def test_a_killed_run_with_stress_ends_as_one_that_nothing_interrupted(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in (MACE_FILE, AL_FILE, "geometry.in"):
        shutil.copy(finished[0] / name, folder / name)
    for n_labels in (7, len(labels_of(finished[0])) - 3):
        job = start(folder, 1)
        wait_for_labels(job, folder, n_labels)
        kill_all(job)
    succeed(folder)
    for name in ("restart/labels.jsonl", "restart/journal.jsonl"):
        assert (folder / name).read_bytes() == (finished[0] / name).read_bytes(), name


def test_other_ranks_train_and_label_with_stress(tmp_path: Path) -> None:
    folder = inputs(
        tmp_path / "run", parallel=True, training_ranks=2, num_trajectories=2, analysis=True
    )
    succeed(folder, 3)
    labels = labels_of(folder)
    assert all(np.abs(each["stress"] - true_stress(each)).max() < 1e-12 for each in labels)
    errors = [e["mae_stress"] for e in journal(folder, "epoch") if e["mae_forces"] is not None]
    assert errors and all(error > 0 for error in errors)
    assert all(e["stress_uncertainty"] > 0 for e in journal(folder, "check"))


def test_the_library_of_fhi_aims_is_asked_for_the_stress(
    tmp_path: Path,
    asi_library: Path,
) -> None:
    folder = tmp_path / "run"
    half = 3.5 / 2
    geometry = f"""\
lattice_vector 0 {half} {1.02 * half}
lattice_vector {half} 0.05 {half}
lattice_vector {0.97 * half} {half} 0
atom 0 0 0 C
atom {0.52 * half} {0.49 * half} {0.5 * half} C
"""
    write_inputs(
        folder,
        geometry=geometry,
        asi_library=asi_library,
        mace=STRESS,
        active_learning={"ACTIVE_LEARNING": SMALLEST},
    )
    (folder / "control.in").write_text("xc gfn1\nk_grid 1 1 1\n")
    (folder / "species" / "06_C_default").write_text("  species C\n    nucleus 6\n")
    assert "added to control.in: compute_analytical_stress .true." in succeed(folder, 2)
    labels = labels_of(folder)
    assert len(labels) > 5
    for label in labels[::5]:
        atoms = Atoms(label["numbers"], label["positions"], cell=label["cell"], pbc=True)
        atoms.calc = TBLite(method="GFN1-xTB", verbosity=0)
        assert np.abs(label["stress"] - atoms.get_stress(voigt=False)).max() < 1e-8  # eV/A^3


def test_the_spread_of_the_stress_alone_asks_for_labels(tmp_path: Path) -> None:
    """The forces' threshold is far away."""
    never = {"c_x": -1000.0, "threshold_warmup": 1}
    found = {}
    for limit in (1e-9, 1e3):
        folder = inputs(tmp_path / f"{limit:g}", stress_threshold=limit, max_MD_steps=20, **never)
        succeed(folder)
        found[limit] = [e["crosses"] for e in journal(folder, "check")]
    assert found[1e-9] and all(found[1e-9])
    assert found[1e3] and not any(found[1e3])


def test_stress_may_be_switched_on_and_labels_without_it_are_told(tmp_path: Path) -> None:
    # Every check asks for a label.
    folder = inputs(tmp_path / "run", mace={}, c_x=0.99, threshold_warmup=1)
    succeed(folder, command="FHI_AL-initial-ds")
    n_before = len(labels_of(folder))
    text = (folder / MACE_FILE).read_text()
    text = text.replace("GENERAL:\n", "GENERAL:\n  compute_stress: true\n")
    (folder / MACE_FILE).write_text(text)
    told = f"{n_before} of {n_before} labels have no stress (initial, trajectory 0, MD step 0,"
    output = succeed(folder, 1, "--check")
    assert f"restart/labels.jsonl: {told}" in output
    assert "GENERAL.compute_stress: False -> True" in output
    assert told in succeed(folder)
    labels = labels_of(folder)
    assert len(labels) > n_before
    assert [label["stress"] is None for label in labels] == [
        place < n_before for place in range(len(labels))
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"reference_calculator": "ase.calculators.tip3p.TIP3P", "reference_arguments": {}},
            ("TIP3P computes energy, forces, no stress",),
        ),
        (
            {"reference_calculator": "ase.calculators.nix.Nix"},
            ("ACTIVE_LEARNING.reference_calculator", "no module"),
        ),
    ],
    ids=["a calculator without stress", "none at all"],
)
def test_a_calculator_without_stress_is_refused(
    tmp_path: Path, changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    code, output = run(inputs(tmp_path / "run", **changes), 1, "--check")
    assert code == 2, output
    assert all(word in output for word in words), output
