"""FHI_AL-evaluate in this process: a real model, real files, and what MACE's calculator says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import molecule
from foundation.small_foundation import SmallFoundation
from mace.calculators import MACECalculator
from mpi4py import MPI
from tblite.ase import TBLite

from fhi_al.app.evaluate.command import checked, evaluate
from fhi_al.app.evaluate.order import ChecksOrder, EvaluateOrder, MDOrder
from fhi_al.app.process_set_up import Process
from fhi_al.core.errors import InputError
from fhi_al.models.file_models import FilesPredictor
from fhi_al.models.mace.model_files import MaceFiles
from fhi_al.parallel.layout import RankPlacement

pytestmark = pytest.mark.real


@pytest.fixture
def process() -> Iterator[Process]:
    with ExitStack() as changes:
        yield Process(MPI.COMM_SELF, [RankPlacement("here", (0,))], changes)


@pytest.fixture(scope="module")
def some_labels(
    small_foundation: SmallFoundation, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A file of some known structures."""
    path = tmp_path_factory.mktemp("labels") / "some.xyz"
    ase.io.write(path, known(small_foundation), format="extxyz")
    return path


def known(small_foundation: SmallFoundation) -> list[Atoms]:
    """Every tenth of the known molecules, and two crystals."""
    frames = ase.io.read(small_foundation.known_structures, ":")
    crystals = [atoms for atoms in frames if atoms.pbc.all()]
    return [*[atoms for atoms in frames if not atoms.pbc.any()][::10], crystals[0], crystals[-1]]


def order(some_labels: Path, *models: Path, **more: Any) -> EvaluateOrder:
    return EvaluateOrder(models, on=str(some_labels), **more)


def test_files_predict_what_maces_calculator_predicts(small_foundation: SmallFoundation) -> None:
    files = MaceFiles("cpu", "float64")
    both = [files.model(path) for path in (small_foundation.model, small_foundation.weights)]
    assert both[0].backend is both[1].backend  # neighbours are found once
    frames = known(small_foundation)
    calculator = MACECalculator(str(small_foundation.model), device="cpu", default_dtype="float64")
    found = FilesPredictor(both).predict(frames, stress=True)
    for atoms, prediction in zip(frames, found, strict=True):
        atoms.calc = calculator
        # eV, eV/A, eV/A^3: sums in another order.
        np.testing.assert_allclose(prediction.energies, atoms.get_potential_energy(), atol=1e-8)
        np.testing.assert_allclose(prediction.forces[0], atoms.get_forces(), atol=1e-8)
        np.testing.assert_allclose(prediction.forces[1], atoms.get_forces(), atol=1e-8)
        if atoms.pbc.all():
            stress = atoms.get_stress(voigt=False)
            np.testing.assert_allclose(prediction.stress[0], stress, atol=1e-8)


def test_errors_on_a_file_are_those_of_maces_calculator(
    small_foundation: SmallFoundation, some_labels: Path, tmp_path: Path, process: Process
) -> None:
    frames = ase.io.read(some_labels, ":")
    calculator = MACECalculator(str(small_foundation.model), device="cpu", default_dtype="float64")
    force_errors, energy_errors = [], []
    for atoms in frames:
        copy = atoms.copy()
        copy.calc = calculator
        force_errors.append(copy.get_forces() - atoms.arrays["REF_forces"])
        energy_error = copy.get_potential_energy() - atoms.info["REF_energy"]
        energy_errors.append(energy_error / len(atoms))
    found = evaluate(tmp_path, order(some_labels, small_foundation.model), process, quiet=True)
    errors = found.values["errors"]["small_foundation.model"]
    every = np.concatenate(force_errors)
    assert errors["forces"]["mae"] == pytest.approx(np.abs(every).mean(), abs=1e-8)
    assert errors["forces"]["largest"] == pytest.approx(np.abs(every).max(), abs=1e-8)
    assert errors["energy_per_atom"]["rmse"] == pytest.approx(
        np.sqrt(np.square(energy_errors).mean()), abs=1e-8
    )
    numbers = np.concatenate([atoms.numbers for atoms in frames])
    of_carbon = np.abs(every[numbers == 6]).mean()
    assert errors["by_element"]["C"]["mae"] == pytest.approx(of_carbon, abs=1e-8)
    output = tmp_path / "evaluation"
    assert json.loads((output / "evaluation.json").read_text()) == found.values
    worst = ase.io.read(output / "worst.xyz", ":")
    largest = max(np.linalg.norm(one, axis=1).max() for one in force_errors)
    assert worst[0].info["largest_force_error"] == pytest.approx(largest, abs=1e-7)
    assert worst[0].positions == pytest.approx(frames[worst[0].info["frame"] - 1].positions)
    assert (output / "parity.png").read_bytes().startswith(b"\x89PNG")
    assert "small_foundation.model" in (output / "evaluation.txt").read_text()


def wrong_labels(folder: Path, case: str) -> Path:
    """A file that something is wrong with."""
    atoms = molecule("H2O")
    atoms.info["REF_energy"], atoms.arrays["REF_forces"] = -100.0, np.zeros((3, 3))
    second = atoms.copy()
    second.rattle(0.1)
    if case == "no forces":
        del second.arrays["REF_forces"]
    elif case == "stranger":
        second.symbols[0] = "S"
    elif case == "not finite":
        second.info["REF_energy"] = np.nan
    path = folder / "labels.xyz"
    ase.io.write(path, [atoms, second], format="extxyz")
    return path


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("no forces", "labels.xyz: frame 2: has no REF_forces"),
        ("stranger", "labels.xyz: frame 2: has S, which not every model knows"),
        ("not finite", "labels.xyz: frame 2: REF_energy is not finite"),
    ],
)
def test_wrong_labels_are_refused_by_frame(
    case: str, message: str, small_foundation: SmallFoundation, tmp_path: Path, process: Process
) -> None:
    with pytest.raises(InputError, match=message):
        checked(tmp_path, order(wrong_labels(tmp_path, case), small_foundation.weights), process)


def test_wrong_models_are_all_named(some_labels: Path, tmp_path: Path, process: Process) -> None:
    broken = tmp_path / "broken.model"
    broken.write_text("no model")
    with pytest.raises(InputError) as raised:
        checked(tmp_path, order(some_labels, broken, tmp_path / "absent.model"), process)
    assert [line.partition(": ")[0] for line in raised.value.problems] == [
        str(broken),
        str(tmp_path / "absent.model"),
    ]
    with pytest.raises(InputError, match=r"no models .*--workdir"):
        checked(tmp_path, order(some_labels), process)


def test_checks_look_at_molecules_and_crystals_of_a_file(
    small_foundation: SmallFoundation, tmp_path: Path, process: Process
) -> None:
    frames = ase.io.read(small_foundation.known_structures, ":")
    formulas = ("H2O", "C8")
    some = [atoms for atoms in frames if atoms.get_chemical_formula() in formulas]
    ase.io.write(tmp_path / "some.xyz", some, format="extxyz")
    wanted = ChecksOrder(("stability", "vibrations", "eos", "dimers", "smoothness"), time_ps=0.08)
    asked = order(tmp_path / "some.xyz", small_foundation.weights, checks=wanted)
    found = evaluate(tmp_path, asked, process, quiet=True)
    checks = found.values["checks"]
    assert set(checks["stability"]) == set(checks["smoothness"]) == {"H2O", "C8 (crystal)"}
    assert set(checks["eos"]) == {"C8 (crystal)"}
    assert len(checks["vibrations"]["H2O"]["model_per_cm"]) == 3
    # Of one energy function: exact but for the five-point difference.
    assert checks["smoothness"]["H2O"]["force_off_slope_ev_per_a"] < 1e-4
    # A molecule has one oxygen atom, the crystal no end of carbon.
    assert set(checks["dimers"][""]) == {"H-H", "H-O", "C-C"}
    for name in ("eos", "dimers", "vibrations", "stability"):
        assert (tmp_path / "evaluation" / f"{name}.png").exists()
    assert found.values["verdict"].split(":")[0] in ("good", "fair", "poor")
    assert "verdict: " in found.lines[-3]


def test_checks_alone_need_systems(
    small_foundation: SmallFoundation, tmp_path: Path, process: Process
) -> None:
    asked = EvaluateOrder((small_foundation.weights,), checks=ChecksOrder(("eos",)))
    with pytest.raises(InputError, match="--checks: expected systems"):
        checked(tmp_path, asked, process)
    with pytest.raises(InputError, match="--on: expected a file"):
        checked(tmp_path, EvaluateOrder((small_foundation.weights,)), process)
    asked = EvaluateOrder((small_foundation.weights,), on="md")
    with pytest.raises(InputError, match=r"no active_learning_settings\.yaml"):
        checked(tmp_path, asked, process)


def run_of_two_systems(folder: Path, **keys: Any) -> Path:
    """Of a run: settings and geometries of water and of an ion."""
    folder.mkdir()
    (folder / "water.in").write_text("atom 0 0 0 O\natom 0 0.76 0.59 H\natom 0 -0.76 0.59 H\n")
    (folder / "oh.in").write_text("atom 0 0 0 O\natom 0 0 0.97 H\n")
    content = {
        "ACTIVE_LEARNING": {"reference_engine": "tblite", **keys},
        "SYSTEMS": [
            {"name": "water", "geometry": "water.in"},
            {"name": "oh", "geometry": "oh.in", "arguments": {"charge": -1}},
        ],
    }
    (folder / "active_learning_settings.yaml").write_text(yaml.safe_dump(content))
    return folder


def test_labels_of_several_systems_have_their_arguments(
    small_foundation: SmallFoundation, tmp_path: Path, process: Process
) -> None:
    folder = run_of_two_systems(tmp_path / "run")
    asked = EvaluateOrder(
        (small_foundation.weights,),
        on="md",
        md=MDOrder(n_structures=4, spacing_fs=1.0, equilibration_fs=1.0),
        checks=ChecksOrder(("vibrations",)),
    )
    evaluate(folder, asked, process, quiet=True)
    lines = (folder / "evaluation" / "labels.jsonl").read_text().splitlines()
    records = [json.loads(line)["label"] for line in lines]
    ions = [one for one in records if one["numbers"] == [8, 1]]
    assert len(ions) > 10
    assert len(records) - len(ions) > 10
    for one in records[::5]:
        atoms = Atoms(one["numbers"], one["positions"])
        charge = -1 if len(atoms) == 2 else 0
        atoms.calc = TBLite(method="GFN2-xTB", charge=charge, verbosity=0)
        # eV, eV/A: a start from another density, converged to 1e-6 Hartree.
        assert one["energy"] == pytest.approx(atoms.get_potential_energy(), abs=2e-5)
        np.testing.assert_allclose(one["forces"], atoms.get_forces(), atol=1e-3)


def of_ranks(process: Process, n_ranks: int) -> Process:
    return replace(process, placements=[RankPlacement("here", (k,)) for k in range(n_ranks)])


def test_a_check_says_who_would_compute_and_refuses_too_few_ranks(
    small_foundation: SmallFoundation, some_labels: Path, tmp_path: Path, process: Process
) -> None:
    folder = run_of_two_systems(tmp_path / "run", parallel=True, reference_groups=4)
    on_md = EvaluateOrder((small_foundation.weights,), on="md")
    with pytest.raises(InputError, match="reference_groups = 4"):
        checked(folder, on_md, of_ranks(process, 3))
    # One rank computes alone, whatever the groups are to be.
    assert "layout: labels one after the other" in "\n".join(checked(folder, on_md, process))
    text = "\n".join(checked(folder, on_md, of_ranks(process, 5)))
    assert "layout: labels by 4 group(s) of 4 rank(s) in all" in text
    # The engine's ranks do not matter where it is not asked.
    on_file = order(some_labels, small_foundation.weights)
    assert "layout" not in "\n".join(checked(folder, on_file, of_ranks(process, 3)))
