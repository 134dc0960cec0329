"""The true error of the finished models, measured in MD of their own."""

from __future__ import annotations

import contextlib
import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import read
from run_folder import (
    assert_same_end,
    copy_of,
    journal,
    kill_all,
    labels,
    snapshots,
    start,
    succeed,
    wait_for_labels,
    wait_until,
    write_inputs,
)

pytestmark = [pytest.mark.mpi, pytest.mark.real]


def folder_of(path: Path, **changes: Any) -> Path:
    md = {"timestep": 1.0}  # half of the steps
    return write_inputs(path, active_learning={"ACTIVE_LEARNING": changes, "MD": md})


def labels_of_the_test(folder: Path) -> list[dict[str, Any]]:
    return [record for record in labels(folder) if record["origin"]["phase"] == "test"]


def in_newest_snapshot(folder: Path) -> tuple[str, dict[str, Any]]:
    """The stage, and where the test stands; nothing before the first snapshot."""
    with contextlib.suppress(OSError, ValueError, IndexError):  # replaced meanwhile, or none yet
        state = json.loads((snapshots(folder)[-1] / "run.json").read_text())["state"]
        return state["stage"], state["final_test"] or {}
    return "", {}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A run's folder, its inputs, its output."""
    folder = folder_of(tmp_path_factory.mktemp("final_test") / "run", final_test=3)
    inputs = copy_of(folder, folder.with_name("inputs"))
    return folder, inputs, succeed(folder)


def test_structures_of_the_models_own_md_are_labelled_and_never_trained_on(finished) -> None:
    folder, _, output = finished
    records = labels_of_the_test(folder)
    assert len(records) == 3 and labels(folder)[-3:] == records
    test = read(folder / "data" / "final" / "test" / "combined.xyz", ":")
    of_md = [atoms for atoms in test if atoms.info["config_type"] == "test"]
    in_file = [atoms.positions for atoms in of_md]
    np.testing.assert_allclose(in_file, [r["positions"] for r in records], atol=1e-7)
    for kind in ("training", "validation"):
        sets = read(folder / "data" / "final" / kind / "combined.xyz", ":")
        assert not [atoms for atoms in sets if atoms.info["config_type"] == "test"]
    # Thermal structures, far from each other and from where they began.
    steps = [record["origin"]["step"] for record in records]
    assert min(steps) > 250
    assert "final test 3" in output


def test_the_error_that_is_told_is_the_one_on_these_structures(finished) -> None:
    folder, _, output = finished
    (line,) = re.findall(r"final test: true errors in MD of the finished models: (.*)", output)
    found = re.match(r"forces ([\d.]+) \+- ([\d.]+) meV/A, energies [\d.]+ meV/atom on 3", line)
    assert found
    each = list(csv.DictReader((folder / "results" / "final_test.csv").open()))
    errors, sizes = ([float(row[k]) for row in each] for k in ("mae_forces", "uncertainty"))
    # Of all models on the same structures, in test_errors.csv: those of the two members.
    rows = [e for e in journal(folder, "test") if e["points"] == "MD of the final models"]
    plain = [row["mae_forces"] for row in rows if row["model"] != "ensemble_mean"]
    assert np.mean(errors) == pytest.approx(np.mean(plain), rel=1e-9)
    # Drawn in proportion to its uncertainty, a structure counts in proportion to its inverse.
    mean = float(each[0]["mean_uncertainty"])
    weighted = [mean / size * error for size, error in zip(sizes, errors, strict=True)]
    assert float(found[1]) == pytest.approx(1000 * np.mean(weighted), abs=0.06)
    standard_error = np.std(weighted, ddof=1) / len(each) ** 0.5
    assert float(found[2]) == pytest.approx(1000 * standard_error, abs=0.06)
    assert f"summary: true errors of the final models in MD of their own: {line}" in output


def test_a_run_killed_in_the_test_has_its_models_and_ends_the_same(finished, tmp_path) -> None:
    folder, inputs, _ = finished
    killed = copy_of(inputs, tmp_path / "killed")
    job = start(killed, 1)
    # One of the test's is there, another one under way.
    wait_for_labels(job, killed, len(labels(folder)) - 2)
    kill_all(job)
    assert (killed / "model").is_dir() and list((killed / "model").glob("*.model"))
    succeed(killed)
    assert_same_end(killed, folder)


def test_a_test_that_has_begun_stays_the_same_without_a_snapshot_of_it(finished, tmp_path) -> None:
    """Its labels in the store are no reason for more of them, or for other structures to begin."""
    folder, inputs, _ = finished
    killed = copy_of(inputs, tmp_path / "killed")
    late = ("--set", "MISC.snapshot_interval=1000.0")
    job = start(killed, 1, *late)
    wait_for_labels(job, killed, len(labels(folder)) - 1)
    kill_all(job)
    stage, test = in_newest_snapshot(killed)
    assert stage == "final test" and (test["n_labels"], test["blocks"]) == (3, 0)
    succeed(killed, 1, *late)
    assert_same_end(killed, folder)


def test_labels_of_a_test_in_the_store_are_unknown_to_a_run_that_begins_again(
    finished, tmp_path
) -> None:
    """Without a snapshot, models would be trained on what is to test them."""
    folder, inputs, _ = finished
    again = copy_of(inputs, tmp_path / "again")
    (again / "restart").mkdir()
    shutil.copy(folder / "restart" / "labels.jsonl", again / "restart")
    succeed(again, 1, "--set", "ACTIVE_LEARNING.final_sets=all")
    sets = read(again / "data" / "final" / "training" / "combined.xyz", ":")
    assert not [atoms for atoms in sets if atoms.info["config_type"] == "test"]


def test_models_whose_md_makes_no_sense_are_not_tested_and_the_run_ends(finished, tmp_path) -> None:
    _, inputs, _ = finished
    folder = copy_of(inputs, tmp_path / "run")
    job = start(folder, 1)
    wait_until(job, lambda: in_newest_snapshot(folder)[0] == "final test", "a final test")
    kill_all(job)
    n_labels = len(labels(folder))
    # From here on a bond below 0.955 A counts as an overlap.
    output = succeed(folder, 1, "--set", "ACTIVE_LEARNING.min_distance=0.985")
    assert re.search(r"no structure was labelled; their MD of 0\.\d ps ended 1\d times", output)
    assert len(labels(folder)) == n_labels
    assert in_newest_snapshot(folder)[0] == "done"
    status = json.loads((folder / "status.json").read_text())
    assert status["true_force_mae"] is None


def test_a_test_gets_no_more_than_is_left_of_a_budget(finished, tmp_path) -> None:
    _, inputs, _ = finished
    folder = copy_of(inputs, tmp_path / "run")
    job = start(folder, 1)
    wait_until(job, lambda: in_newest_snapshot(folder)[0] == "final convergence", "its end")
    kill_all(job)
    budget = len(labels(folder)) + 1
    output = succeed(folder, 1, "--set", f"ACTIVE_LEARNING.label_budget={budget}")
    assert f"1 labels instead of 3, for more are not left of label_budget = {budget}" in output
    assert len(labels_of_the_test(folder)) == 1
    assert len(labels(folder)) == budget


def test_a_budget_has_room_for_the_test_in_parallel_mode_too(tmp_path) -> None:
    changes = {"label_budget": 40, "max_MD_steps": None, "c_x": 0.9, "final_test": "auto"}
    changes |= {"max_initial_epochs": 5, "initial_sampling": "foundation", "parallel": True}
    changes |= {"foundation_calculator": "tblite.ase.TBLite", "n_samples": 3}
    changes |= {"foundation_arguments": {"method": "GFN1-xTB", "verbosity": 0}}
    folder = folder_of(tmp_path / "run", **changes)
    output = succeed(folder, 2)
    assert len(labels(folder)) == 40
    assert "(label_budget = 40, less 4 for the final test)" in output
    assert len(labels_of_the_test(folder)) == 4
