"""FHI_AL-al on data of a user's own: what is wrong is found before anything is written."""

from __future__ import annotations

import shutil
from pathlib import Path

import ase.io
import pytest
from run_folder import SMALLEST, labels, run, succeed, write_inputs

pytestmark = [pytest.mark.mpi, pytest.mark.real]


@pytest.fixture
def folder(finished_run, tmp_path) -> Path:
    """Inputs, and the data and models of a finished initial dataset."""
    finished = finished_run("tblite", 1, models="mace")
    folder = write_inputs(
        tmp_path / "run", active_learning={"ACTIVE_LEARNING": SMALLEST}, models="mace"
    )
    shutil.copytree(finished / "data" / "initial", folder / "data" / "initial")
    shutil.copytree(finished / "model", folder / "model")
    return folder


@pytest.mark.parametrize("options", [["--check"], []])
def test_all_that_is_wrong_is_named_and_nothing_written(folder, options) -> None:
    training = sorted((folder / "data" / "initial" / "training").glob("water_*.xyz"))
    frames = ase.io.read(training[0], ":")
    frames[1] = frames[1][[0, 1]]
    frames[2].info["REF_energy"] = float("nan")
    ase.io.write(training[0], frames, format="extxyz")
    sorted((folder / "data" / "initial" / "validation").glob("water_*.xyz"))[1].write_text("")
    models = sorted((folder / "model").glob("water_*.model"))
    models[0].write_bytes(models[0].read_bytes()[:1000])
    before = sorted(folder.rglob("*"))
    code, output = run(folder, 2, *options, command="FHI_AL-al")
    assert code == 2, output
    assert "Traceback" not in output and "nothing was run" in output
    for message in (
        f"{training[0]}: frame 2: has 2 atoms, geometry.in has 3",
        f"{training[0]}: frame 3: REF_energy is not finite",
        "no structures: expected at least one",
        f"{models[0]}: not a MACE model that this installation can read",
    ):
        assert message in output
    assert sorted(folder.rglob("*")) == before


def test_models_of_another_architecture_are_named(folder) -> None:
    write_inputs(
        folder,
        models="mace",
        active_learning={"ACTIVE_LEARNING": SMALLEST},
        mace={"ARCHITECTURE": {"r_max": 3.5}},
    )
    code, output = run(folder, 1, "--check", command="FHI_AL-al")
    assert code == 2, output
    for model in (folder / "model").glob("water_*.model"):
        assert f"{model}: r_max = 3.0, mace_settings.yaml has 3.5" in output


def test_a_check_says_what_the_run_would_start_from(folder) -> None:
    output = succeed(folder, 1, "--check", command="FHI_AL-al")
    assert f"starts from {folder / 'data' / 'initial'}: " in output
    assert "all inputs are in order" in output
    assert not (folder / "restart").exists()


def test_a_folder_that_an_older_program_left_half_imported_is_healed(folder, tmp_path) -> None:
    """It stored labels one by one: here one in Hartree, before it came to a wrong file."""
    from fhi_al.active_learning.import_initial import store_imported
    from fhi_al.active_learning.initial_data import InitialData
    from fhi_al.labels.labelled_frames import read_labels
    from fhi_al.labels.store import LabelStore

    path = sorted((folder / "data" / "initial" / "training").glob("water_*.xyz"))[0]
    right = path.read_text()
    frames = ase.io.read(path, ":")
    energy = frames[0].info["REF_energy"]
    frames[0].info["REF_energy"] = energy / 27.211386
    ase.io.write(path, frames, format="extxyz")
    store = LabelStore(folder / "restart" / "labels.jsonl")
    store_imported(store, InitialData("", (read_labels(path),), ([],), []))
    store.close()
    path.write_text(right)
    output = succeed(folder, 1, command="FHI_AL-al")
    assert "1 labels differed from those in the imported files" in output
    key = next(r["key"] for r in labels(folder) if r["origin"]["step"] == 1)
    assert [r["energy"] for r in labels(folder) if r["key"] == key] == [energy / 27.211386, energy]
    combined = folder / "data" / "final" / "training" / "combined.xyz"
    assert energy in [atoms.info["REF_energy"] for atoms in ase.io.read(combined, ":")]
