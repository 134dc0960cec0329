"""Runs with models that are not MACE: a kind that a package brings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule
from run_folder import (
    assert_same_end,
    copy_of,
    journal,
    kill_all,
    run,
    start,
    succeed,
    wait_for_a_training_round,
    write_inputs,
)

pytestmark = [pytest.mark.mpi, pytest.mark.real]


def test_a_run_with_models_of_a_package_goes_to_its_end(finished_run) -> None:
    finished = finished_run("tblite", 1, models="pair")
    newest = sorted((finished / "restart").glob("snapshot-*"))[-1]
    state = json.loads((newest / "run.json").read_text())["state"]
    assert state["stage"] == "done"
    losses = [
        entry["training_loss"]
        for entry in journal(finished, "epoch")
        if entry["member"] == 0 and entry["phase"] == "final convergence"
    ]
    assert losses[-1] < losses[0]
    for path in (finished / "model").glob("*.model"):
        assert torch.load(path, weights_only=True)["identity"]["backend"] == "pair"


def test_its_models_are_read_as_the_page_says(finished_run, tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "developer" / "extending" / "model_backend.md"
    block = page.read_text().split("## Final models")[1].split("```python\n")[1].split("```")[0]
    folder = copy_of(finished_run("tblite", 1, models="pair"), tmp_path / "run")
    next((folder / "model").glob("*.model")).rename(folder / "model" / "water_best.model")
    names = {"folder": folder, "atoms": molecule("H2O")}
    exec(block, names)
    prediction = names["prediction"]
    assert prediction.energies.shape == (1,) and prediction.forces.shape == (1, 3, 3)
    assert np.isfinite(prediction.forces).all()


def test_its_other_ranks_train_the_same_and_a_killed_run_ends_the_same(
    finished_run, tmp_path: Path
) -> None:
    folder = write_inputs(
        tmp_path / "run",
        models="pair",
        active_learning={"ACTIVE_LEARNING": {"training_ranks": 2}},
    )
    job = start(folder, 2)
    wait_for_a_training_round(folder, job)
    kill_all(job)
    succeed(folder, 2)
    assert_same_end(folder, finished_run("tblite", 1, models="pair"))


def test_a_kind_that_is_not_there_and_keys_it_does_not_have_are_named(tmp_path: Path) -> None:
    folder = write_inputs(tmp_path / "run", models="pear")
    code, output = run(folder, 1, "--check")
    assert code == 2
    assert "ACTIVE_LEARNING.model_backend = pear: unknown. Did you mean pair" in output
    folder = write_inputs(
        tmp_path / "run",
        models="pair",
        mace={"ARCHITECTURE": {"num_channels": 8}, "MISC": {"compile_final": True}},
    )
    code, output = run(folder, 1, "--check")
    assert code == 2
    assert "unknown key ARCHITECTURE.num_channels" in output
    assert "MISC.compile_final = true: a pair potential cannot be compiled" in output
