"""Runs whose members begin as a foundation model: without initial dataset, killed, in parallel."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase.build import bulk
from ase.io import read, write
from foundation.small_foundation import SmallFoundation
from run_folder import (
    assert_same_end,
    copy_of,
    journal,
    killed_at,
    labels,
    progress,
    succeed,
    write_inputs,
)

from fhi_al.core.split import bootstrap_count, validates

pytestmark = [pytest.mark.mpi, pytest.mark.real]

BUDGET, VALID_RATIO = 9, 0.2
KEYS = {
    "initial_sampling": "none",
    "label_budget": BUDGET,
    "desired_acc": 1e-4,
    "initial_sets": "shared",
    "valid_ratio": VALID_RATIO,
    "c_x": 0.3,
    "max_MD_steps": 100,
    "intermediate_epochs": 2,
    "max_epochs_worker": 2,
    "valid_skip": 2,
    "max_final_epochs": 4,
    "sanity_skip": 1000,
}
REPLAY = {"fine_tuning": "replay", "replay_structures": 4, "replay_batch": 1, "lr": 1e-3}


def folder_of(path: Path, model: Path, training: dict[str, Any] = REPLAY, **changes: Any) -> Path:
    """Water, and silicon with its stress under a pressure, from a foundation model."""
    write_inputs(path, active_learning={"ACTIVE_LEARNING": KEYS | changes}, models="mace")
    write(path / "silicon.xyz", bulk("Si", cubic=False) * 1)
    name = path / "mace_settings.yaml"
    content = yaml.safe_load(name.read_text())
    # A relative path: the run moves, and its model with it.
    shutil.copy(model, path)
    content["ARCHITECTURE"] = {"foundation_model": model.name, "foundation_elements": "run"}
    content["GENERAL"]["compute_stress"] = True
    content["TRAINING"] = {"batch_size": 5, "loss": "stress", **training}
    name.write_text(yaml.safe_dump(content))
    name = path / "active_learning_settings.yaml"
    content = yaml.safe_load(name.read_text())
    content |= {
        "SYSTEMS": [
            {"name": "water", "md": ["molecule"]},
            {"name": "silicon", "geometry": "silicon.xyz", "md": ["crystal"]},
        ],
        "MD": [
            {"name": "molecule"} | content["MD"],
            {"name": "crystal"} | content["MD"] | {"stat_ensemble": "NPT", "pressure": 5.0},
        ],
    }
    name.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def finished(
    small_foundation: SmallFoundation, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, str]:
    """A run's folder, its inputs, its output."""
    path = tmp_path_factory.mktemp("fine_tuning") / "run"
    folder = folder_of(path, small_foundation.weights)
    inputs = copy_of(folder, folder.with_name("inputs"))
    return folder, inputs, succeed(folder)


def test_active_learning_begins_with_the_foundation_model(finished) -> None:
    folder, inputs, output = finished
    assert "left out (initial_sampling: none)" in output
    found = labels(folder)
    assert len(found) == BUDGET
    assert {record["origin"]["phase"] for record in found} == {"active_learning"}
    assert {record["origin"]["system"] for record in found} == {"water", "silicon"}
    crystals = [record for record in found if record["origin"]["system"] == "silicon"]
    volumes = [abs(np.linalg.det(record["cell"])) for record in crystals]
    assert len({round(volume, 6) for volume in volumes}) == len(volumes) > 1
    # The first threshold is that of the uncertainties of the foundation models' own MD.
    first = next(entry for entry in journal(folder, "check") if entry["crosses"])
    before = journal(folder, "check").index(first)
    assert before >= 2
    assert first["threshold"] is not None
    assert "begins with the foundation model" in succeed(inputs, 1, "--check")


def test_training_waits_until_members_can_be_validated(finished) -> None:
    folder, _, _ = finished
    entries = [
        json.loads(line) for line in (folder / "restart" / "journal.jsonl").read_text().splitlines()
    ]
    first = next(entry for entry in entries if entry["kind"] == "epoch")
    assert first["n_training"] >= 1
    assert first["n_validation"] >= 1


def test_replay_is_in_no_data_set_and_in_no_model(finished) -> None:
    import torch

    folder, _, _ = finished
    replayed = read(folder / "restart" / "replay.xyz", ":")
    assert [len(atoms) for atoms in replayed] == [3, 3, 2, 2]
    stored = read(folder / "data" / "final" / "training" / "combined.xyz", ":")
    known = [atoms.positions for atoms in replayed]
    assert not any(
        atoms.positions.shape == one.shape and np.allclose(atoms.positions, one)
        for atoms in stored
        for one in known
    )
    for path in (folder / "model").glob("*.model"):
        model = torch.load(path, weights_only=False)
        assert list(model.heads) == ["Default"]
        assert [int(z) for z in model.atomic_numbers] == [1, 8, 14]


def test_a_finished_run_needs_no_foundation_model(finished, tmp_path) -> None:
    folder = copy_of(finished[0], tmp_path / "run")
    (model,) = folder.glob("*.npz")
    model.unlink()
    assert "is complete already" in succeed(folder)


def test_killed_on_other_numbers_of_ranks(finished, tmp_path) -> None:
    unbroken, inputs, _ = finished
    folder = copy_of(inputs, tmp_path / "run")
    last = progress(unbroken)
    killed_at(folder, [3, last // 2, last - 3])
    succeed(folder, 2)
    assert_same_end(folder, unbroken)


def test_in_parallel_with_adapters_and_bootstrapped_sets(small_foundation, tmp_path) -> None:
    training = {"fine_tuning": "lora", "lr": 1e-3}
    changes = {"parallel": True, "initial_sets": "bootstrap", "training_ranks": "auto"}
    folder = folder_of(tmp_path / "run", small_foundation.model, training, **changes)
    output = succeed(folder, 3)
    assert len(labels(folder)) == BUDGET
    assert "active learning done" in output
    # Both members' points at all places but those of their folds, as often as they are drawn.
    places = [
        [place for place in range(BUDGET) if not validates(member, place, VALID_RATIO)]
        for member in range(2)
    ]
    drawn = [0, 0]
    for member, of_member in enumerate(places):
        for place in of_member:  # the first is there in any case
            drawn[member] += max(bootstrap_count(member, place), drawn[member] == 0)
    assert drawn != [len(of_member) for of_member in places]
    trained = journal(folder, "epoch")
    assert [max(e["n_training"] for e in trained if e["member"] == k) for k in range(2)] == drawn


def test_an_initial_dataset_is_as_small_as_lambda_lets_it_be(small_foundation, tmp_path) -> None:
    changes = {"initial_sampling": "aimd", "lambda": 1e5, "n_samples": 2, "label_budget": 40}
    folder = folder_of(tmp_path / "run", small_foundation.weights, {"lr": 1e-3}, **changes)
    output = succeed(folder, 1, command="FHI_AL-initial-ds")
    assert "initial dataset, round 1: " in output
    assert "initial dataset, round 2: " not in output
    stored = {
        atoms.positions.tobytes()
        for kind in ("training", "validation")
        for atoms in read(folder / "data" / "initial" / kind / "combined.xyz", ":")
    }
    assert len(stored) == 2 * 2
