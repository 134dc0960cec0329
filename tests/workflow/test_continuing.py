"""What may be different when a run is continued, and who may work in its folder."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from run_folder import (
    SHORT,
    SMALLEST,
    assert_same_end,
    copy_of,
    kill_all,
    labels,
    run,
    snapshots,
    start,
    succeed,
    wait_for_labels,
    write_inputs,
)

pytestmark = [pytest.mark.mpi, pytest.mark.real]


def change(folder: Path, file: str, old: str, new: str) -> None:
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))


def test_limits_may_change_and_the_change_is_told(finished_run, tmp_path) -> None:
    folder = copy_of(finished_run("tblite", 1, models="mace"), tmp_path / "run")
    change(folder, "active_learning_settings.yaml", "desired_acc: 0.02", "desired_acc: 0.03")
    output = succeed(folder, 1, "--check")
    assert "continues the run in restart/: done" in output
    assert "changed since the snapshot: ACTIVE_LEARNING.desired_acc: 0.02 -> 0.03" in output
    output = succeed(folder, 2)
    assert "changed since the snapshot: ACTIVE_LEARNING.desired_acc: 0.02 -> 0.03" in output
    assert "complete already" in output


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("mace_settings.yaml", "batch_size: 5", "batch_size: 6", "TRAINING.batch_size: 5 -> 6"),
        ("geometry.in", "0.1173", "0.1273", "geometry.in: other positions"),
        ("mace_settings.yaml", "seed: 7", "seed: 8", "GENERAL.seed: 7 -> 8"),
        (
            "active_learning_settings.yaml",
            "temperature: 300",
            "temperature: 400",
            "MD.temperature: 300.0 -> 400.0",
        ),
    ],
)
def test_what_decided_the_past_must_stay(finished_run, tmp_path, file, old, new, message) -> None:
    # Of MACE models: a refused launch imports no torch.
    finished = finished_run("tblite", 1, models="mace")
    folder = copy_of(finished, tmp_path / "run")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    change(folder, file, old, new)
    code, output = run(folder, 1, "--check")
    assert code == 2 and message in output, output
    code, output = run(folder, 2)
    assert code == 2, output
    assert (
        message in output and "Put them back as they were" in output and "Traceback" not in output
    )
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    changed = {
        path.relative_to(folder).parts[0] for path in after if before.get(path) != after[path]
    }
    assert changed <= {file, "restart", "logs"}
    assert labels(folder) == labels(finished)


@pytest.fixture(scope="module")
def begun(asi_library, tmp_path_factory) -> Path:
    """A run whose initial dataset is done, on the ASI library."""
    folder = write_inputs(tmp_path_factory.mktemp("begun") / "run", asi_library=asi_library)
    succeed(folder, 1, command="FHI_AL-initial-ds")
    return folder


def test_comments_and_masses_are_no_other_engine(begun, finished_run, tmp_path) -> None:
    """A run goes on as before: it keeps the masses it began with, and says so."""
    folder = copy_of(begun, tmp_path / "run")
    control = folder / "control.in"
    control.write_text("# as in the paper\n\n" + control.read_text() + "\n   # the end\n")
    # As a folder of defaults elsewhere would be, with another comment in it.
    species = folder / "species"
    species.rename(folder / "defaults")
    change(folder, "active_learning_settings.yaml", "species_dir: species", "species_dir: defaults")
    for path in (folder / "defaults").iterdir():
        path.write_text("# " + 70 * "-" + "\n\n" + path.read_text())
    change(folder, "defaults/01_H_default", "nucleus 1", "nucleus 1\n    mass 2.014")
    kept = "changed since the snapshot: masses of species blocks: H 1.008 -> 2.014 u (not applied"
    assert kept in succeed(folder, 1, "--check")
    assert kept in succeed(folder, 1)
    assert_same_end(folder, finished_run("asi", 1))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("control.in", "xc gfn2", "xc gfn1"),
        ("species/01_H_default", "nucleus", "l_hartree 4\n  nucleus"),
    ],
)
def test_the_check_refuses_another_engine_as_the_run_does(begun, tmp_path, file, old, new) -> None:
    folder = copy_of(begun, tmp_path / "run")
    change(folder, file, old, new)
    before = (folder / "restart" / "labels.jsonl").read_bytes()
    for options in (["--check"], []):
        code, output = run(folder, 1, *options)
        assert code == 2, output
        assert "labels.jsonl:1: this label was computed by another engine" in output
    assert (folder / "restart" / "labels.jsonl").read_bytes() == before


def test_a_second_run_in_the_folder_is_refused(asi_library, tmp_path) -> None:
    folder = write_inputs(
        tmp_path / "run", asi_library=asi_library, active_learning={"ACTIVE_LEARNING": SHORT}
    )
    first = start(folder, 2, env={"ASI_SLEEP_MS": "2000"})
    wait_for_labels(first, folder, 1)
    code, output = run(folder, 2)
    assert code == 2, output
    assert "another run works in this folder (host " in output and "Traceback" not in output
    kill_all(first)
    # The lock of a killed run is not in the way.
    succeed(folder, 2, command="FHI_AL-initial-ds")


COMMANDS = ("FHI_AL", "FHI_AL-initial-ds", "FHI_AL-al")


def lose_the_engine(folder: Path) -> None:
    """The library is somewhere else, the species defaults are gone."""
    settings = folder / "active_learning_settings.yaml"
    text = re.sub("aims_lib_path: .*", "aims_lib_path: gone.so", settings.read_text())
    settings.write_text(text)
    shutil.rmtree(folder / "species")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_finished_run_needs_no_engine(finished_run, tmp_path, command) -> None:
    folder = copy_of(finished_run("asi", 1), tmp_path / "run")
    lose_the_engine(folder)
    output = succeed(folder, 1, "--check", command=command)
    assert "all inputs are in order" in output
    output = succeed(folder, 2, command=command)
    assert "active learning is complete already" in output
    n_labels = len(labels(folder))
    assert f"labels: {n_labels} computed" in output


def test_a_convergence_needs_no_engine(finished_run, tmp_path) -> None:
    unbroken = finished_run("asi", 1)
    folder = copy_of(unbroken, tmp_path / "run")
    shutil.rmtree(snapshots(folder)[-1])
    lose_the_engine(folder)
    assert "continues the run in restart/: final convergence" in succeed(folder, 1, "--check")
    succeed(folder, 1)
    assert_same_end(folder, unbroken)


def test_an_engine_that_is_needed_is_asked_for(finished_run, tmp_path) -> None:
    folder = copy_of(finished_run("asi", 1), tmp_path / "run")
    for snapshot in snapshots(folder):
        shutil.rmtree(snapshot)
    lose_the_engine(folder)
    for ranks, options in ((1, ["--check"]), (2, [])):
        code, output = run(folder, ranks, *options)
        assert code == 2, output
        assert "gone.so" in output and "species" in output


def test_a_foundation_model_is_needed_for_sampling_only(finished_run, tmp_path) -> None:
    model = next((finished_run("tblite", 1, models="mace") / "model").glob("*.model"))
    shutil.copy(model, tmp_path / "foundation.model")
    settings = SMALLEST | {
        "initial_sampling": "foundation",
        "foundation_model": "../foundation.model",
    }
    folder = write_inputs(
        tmp_path / "run", active_learning={"ACTIVE_LEARNING": settings}, models="mace"
    )
    succeed(folder, 1, command="FHI_AL-initial-ds")
    (tmp_path / "foundation.model").unlink()
    for command in ("FHI_AL", "FHI_AL-al"):
        succeed(folder, 1, "--check", command=command)
    output = succeed(folder, 1, command="FHI_AL-initial-ds")
    assert "the initial dataset is complete already" in output
    succeed(folder, 1, command="FHI_AL")
    # And when all is done; test_needs has every command in every stage.
    assert "complete already" in succeed(folder, 1, command="FHI_AL-al")
