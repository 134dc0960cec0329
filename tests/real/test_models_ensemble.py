"""Predictions, ASE calculator and exported models of an ensemble of real MACE models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from models_parts import ELEMENTS, ensemble, fitted, settings, water_labels

from fhi_al.core.label import Label
from fhi_al.core.structure import structure
from fhi_al.models.ensemble import Ensemble, device_problem
from fhi_al.models.training import SerialTrainingPool, whole_epoch

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def labels() -> list[Label]:
    return water_labels(12)


@pytest.fixture(scope="module")
def trained(labels: list[Label]) -> Ensemble:
    """Two members after five epochs."""
    made = fitted(labels)
    SerialTrainingPool(made, 5).begin(range(2), 5).finish()
    return made


def water(label: Label) -> Atoms:
    return Atoms(label.numbers, label.positions)


def test_forces_are_minus_the_gradient_of_the_energy(
    labels: list[Label], trained: Ensemble
) -> None:
    step = 1e-4  # A
    energies, forces = trained.energies_and_forces(labels[0])
    assert energies.shape == (2,)
    assert forces.shape == (2, 3, 3)
    sides = []
    for sign in (1, -1):
        moved = labels[0].positions.copy()
        moved[1, 2] += sign * step
        sides.append(trained.energies_and_forces(replace(labels[0], positions=moved))[0])
    gradient = (sides[0] - sides[1]) / (2 * step)
    np.testing.assert_allclose(forces[:, 1, 2], -gradient, atol=1e-5)  # eV/A, step squared


def test_members_differ_and_one_alone_is_the_same(labels: list[Label], trained: Ensemble) -> None:
    forces = trained.predict([labels[0]])[0].forces
    assert np.abs(forces[0] - forces[1]).max() > 0.01
    assert np.array_equal(trained.predict([labels[0]], [1])[0].forces[0], forces[1])
    system = structure([8, 1, 1], np.zeros((3, 3)))
    moved = replace(system, positions=labels[0].positions)
    assert np.array_equal(trained.predict([moved])[0].forces, forces)


def test_periodic_cell_is_seen() -> None:
    made = Ensemble(settings(), (14,), (1,))
    cell = bulk("Si", cubic=True)
    cell.rattle(0.05, seed=1)
    periodic = made.energies_and_forces(cell)[1][0]
    np.testing.assert_allclose(periodic.sum(axis=0), 0, atol=1e-10)  # eV/A
    moved = cell.copy()
    moved.positions[0] += cell.cell[0]
    np.testing.assert_allclose(made.energies_and_forces(moved)[1][0], periodic, atol=1e-10)
    molecule = Atoms(cell.numbers, cell.positions)
    assert np.abs(made.energies_and_forces(molecule)[1][0] - periodic).max() > 1e-3


def test_broken_structures_give_nan_at_once(labels: list[Label], trained: Ensemble) -> None:
    for position in (np.nan, np.inf, 1e4):
        positions = labels[0].positions.copy()
        positions[2, 0] = position
        energies, forces = trained.energies_and_forces(replace(labels[0], positions=positions))
        assert np.isnan(energies).all()
        assert np.isnan(forces).all()


def test_molecule_far_from_the_origin_is_not_broken(labels: list[Label], trained: Ensemble) -> None:
    (away,) = trained.predict([replace(labels[0], positions=labels[0].positions + 5000.0)])
    # 5000 A + 1 A holds 12 digits.
    np.testing.assert_allclose(away.forces, trained.predict([labels[0]])[0].forces, atol=1e-8)


FRESH = """
import json, sys
import numpy as np
assert not any("fhi_al" in path for path in sys.path)
from mace.calculators import MACECalculator
from ase import Atoms
paths, numbers, positions = json.loads(sys.argv[1])
calculator = MACECalculator(model_paths=paths, device="cpu", default_dtype="float64")
atoms = Atoms(numbers, positions, calculator=calculator)
atoms.get_forces()
found = calculator.results["forces_comm"].tolist()
print(json.dumps({"forces": found, "r_max": calculator.r_max, "head": calculator.head,
                  "package": any(name.startswith("fhi_al") for name in sys.modules)}))
"""


def test_exported_models_load_without_this_package(
    labels: list[Label], trained: Ensemble, tmp_path: Path
) -> None:
    paths = trained.export(tmp_path / "model", "water")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "water_11.model",
        "water_22.model",
    ]
    given = [[str(p) for p in paths], labels[0].numbers.tolist(), labels[0].positions.tolist()]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", FRESH, json.dumps(given)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert not found["package"]
    assert found["r_max"] == 4.0
    assert found["head"] == "Default"
    # MACE's calculator has the profiling executor on: the last bits differ.
    np.testing.assert_allclose(found["forces"], trained.predict([labels[0]])[0].forces, atol=1e-10)


def test_member_takes_over_an_exported_model(
    labels: list[Label], trained: Ensemble, tmp_path: Path
) -> None:
    path = trained.export(tmp_path, "water", [1])[0]
    assert [entry.name for entry in tmp_path.iterdir()] == ["water_22.model"]
    made = ensemble(labels, (7,))
    made.load_exported(path, 0)
    assert np.array_equal(
        made.predict([labels[0]])[0].forces[0], trained.predict([labels[0]])[0].forces[1]
    )
    assert made.members[0].frozen
    assert np.isfinite(whole_epoch(made.members[0]))


COMPILED = """
import json, sys
import torch
path, inputs, out = sys.argv[1:]
extra = {"config.yaml": "", "commit.txt": ""}
model = torch.jit.load(path, _extra_files=extra)
found = model(torch.load(inputs, weights_only=True), training=False, compute_force=True)
torch.save(found["forces"].detach(), out)
print(json.dumps({"config": json.loads(extra["config.yaml"]), "mace": "mace" in sys.modules}))
"""


def test_compiled_export_needs_torch_alone_and_gives_the_same_forces(
    labels: list[Label], trained: Ensemble, tmp_path: Path
) -> None:
    paths = trained.export_compiled(tmp_path, "water")
    assert [path.name for path in paths] == ["water_11_compiled.model", "water_22_compiled.model"]
    backend = trained.backend
    inputs = backend.inputs([backend.sample(label) for label in labels[:2]], torch.float64)
    torch.save(inputs, tmp_path / "inputs.pt")
    message = [COMPILED, str(paths[1]), str(tmp_path / "inputs.pt"), str(tmp_path / "forces.pt")]
    run = subprocess.run(
        [sys.executable, "-I", "-c", *message],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    answer = json.loads(run.stdout)
    assert not answer["mace"]
    assert float(answer["config"]["r_max"]) == 4.0
    forces = torch.load(tmp_path / "forces.pt", weights_only=True).numpy()
    expected = np.concatenate([trained.predict([label])[0].forces[1] for label in labels[:2]])
    np.testing.assert_allclose(forces, expected, atol=1e-12)  # eV/A, float64


def test_exported_model_of_other_settings_is_refused(
    labels: list[Label], trained: Ensemble, tmp_path: Path
) -> None:
    path = trained.export(tmp_path, "water", [0])[0]
    for changes, message in (({"r_max": 5.0}, "r_max = 4.0"), ({"num_channels": 16}, "do not fit")):
        with pytest.raises(ValueError, match=message):
            ensemble(labels, (7,), **changes).load_exported(path, 0)
    with pytest.raises(ValueError, match="atomic numbers"):
        Ensemble(settings(), (1, 6), (7,)).load_exported(path, 0)
    text = tmp_path / "text.model"
    text.write_text("no model")
    with pytest.raises(ValueError, match=r"text\.model: not a MACE model"):
        ensemble(labels, (7,)).load_exported(text, 0)
    with pytest.raises(FileNotFoundError):
        ensemble(labels, (7,)).load_exported(tmp_path / "none.model", 0)


def test_value_that_mace_refuses_is_told_in_its_words() -> None:
    changed = settings().model_copy(
        update={"architecture": settings().architecture.model_copy(update={"gate": "relu"})}
    )
    with pytest.raises(ValueError, match=r"MACE refuses: .*--gate: invalid choice: 'relu'"):
        Ensemble(changed, ELEMENTS, (1,))


def test_device_problem_names_what_is_missing() -> None:
    assert device_problem("cpu") is None
    assert "unknown" in str(device_problem("gpu"))
    assert "unknown" in str(device_problem("cuda:x"))
    assert "finds 1 cpu device(s)" in str(device_problem("cpu:3"))
