"""MD that explodes, training that diverges, a state of an older program: how the run goes on.

All start from a snapshot that version 1 of the state wrote in the midst of active learning.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from preloaded.launch import preloaded
from run_folder import TIMEOUT_S, datasets, journal, labels, run, succeed, write_inputs

pytestmark = [pytest.mark.mpi, pytest.mark.real]

OLD_STATES = Path(__file__).parent / "old_states"
# What the old runs were begun with, besides what old_run says.
OLD_SETTINGS: dict[int, dict[str, Any]] = {
    1: {},
    2: {},
    3: {},
    # Labels in the background, a test set, calibration, and overlaps that roll MD back.
    4: {
        "parallel": True,
        "num_trajectories": 3,
        "test_ratio": 0.3,
        "calibrate": True,
        "calibration_warmup": 10,
        "sanity_skip": 5,
        "min_distance": 0.95,
    },
    # In a training round of shared sets, after a sanity check; with variables of a thermostat.
    5: {
        "initial_sets": "shared",
        "sanity_action": "add_all",
        "MD": {"thermostat": "NoseHoover"},
    },
    # A ladder of temperatures.
    6: {"analysis": True, "MD": {"temperature": [300, 600]}},
    # Three labels are waited for, and the budget counts them.
    7: {
        "parallel": True,
        "num_trajectories": 3,
        "initial_sampling": "displaced",
        "initial_sets": "shared",
        "label_budget": 60,
    },
}


def old_run(folder: Path, version: int, **changes: Any) -> Path:
    """Inputs and restart/ of a run that an older program began; AL settings may be changed."""
    write_inputs(
        folder,
        models="mace",
        mace={
            "GENERAL": {"default_dtype": "float32"},
            "ARCHITECTURE": {"num_channels": 2, "radial_MLP": [4]},
            "TRAINING": changes.pop("TRAINING", {}),
        },
        active_learning={
            "MD": changes.pop("MD", {}),
            "ACTIVE_LEARNING": {"n_samples": 2, "max_MD_steps": 60, **changes},
        },
    )
    shutil.copytree(OLD_STATES / f"version_{version}" / "restart", folder / "restart")
    return folder


def state(folder: Path) -> dict[str, Any]:
    newest = sorted((folder / "restart").glob("snapshot-*"))[-1]
    return json.loads((newest / "run.json").read_text())["state"]


def rewrite(folder: Path, file: str, old: str, new: str) -> None:
    text = (folder / file).read_text()
    assert text.count(old) == 1
    (folder / file).write_text(text.replace(old, new))


@pytest.mark.parametrize("version", OLD_SETTINGS)
def test_a_run_of_an_older_program_goes_on(tmp_path, version: int) -> None:
    folder = old_run(tmp_path / "run", version, **OLD_SETTINGS[version])
    before, checks, stored = state(folder), journal(folder, "check"), labels(folder)
    output = succeed(folder, 2)
    assert "continuing from the snapshot" in output and "active learning" in output
    assert journal(folder, "check")[: len(checks)] == checks
    assert labels(folder)[: len(stored)] == stored and len(labels(folder)) > len(stored)
    after = state(folder)
    assert after["active"]["sweep"] > 5
    assert {t["step"] for t in after["active"]["trajectories"]} == {60}
    test = before.get("test", [])
    assert after["test"][: len(test)] == test
    assert datasets(folder)


def test_a_run_keeps_the_defaults_that_it_began_with(tmp_path) -> None:
    folder = old_run(tmp_path / "run", 5, **OLD_SETTINGS[5])
    # As if the program had had these values as defaults: no file names them.
    for line in ("  forces_weight: 1000.0\n", "  num_channels: 2\n"):
        rewrite(folder, "mace_settings.yaml", line, "")
    output = succeed(folder, 1, "--check")
    assert "forces_weight: 1000.0" in output and "num_channels: 2\n" in output
    assert (
        "note: TRAINING.forces_weight: 1000.0, with which the run began, not the default of now, "
        "100.0." in output
    )
    rewrite(folder, "mace_settings.yaml", "TRAINING:\n", "TRAINING:\n  forces_weight: 500.0\n")
    code, output = run(folder, 1, "--check")
    assert code == 2
    assert "TRAINING.forces_weight: 1000.0 -> 500.0" in output


def test_a_trajectory_that_explodes_too_often_is_retired_and_may_come_back(tmp_path) -> None:
    # Near the covalent radii's sum the bonds of water count as overlaps, sooner or later.
    folder = old_run(tmp_path / "run", 1, max_rollbacks=2, min_distance=0.97, max_MD_steps=400)
    code, output = run(folder, 2)
    assert code == 1, output
    assert "overlap" in output and "back to the last good point with new velocities" in output
    assert output.count("retired at MD step") == 2
    assert "all 2 trajectories were retired after 2 returns" in output
    assert "Traceback" not in output
    assert not (folder / "data" / "final").exists()
    rewrite(folder, "active_learning_settings.yaml", "max_rollbacks: 2", "max_rollbacks: 3")
    rewrite(folder, "active_learning_settings.yaml", "min_distance: 0.97", "min_distance: 0.3")
    rewrite(folder, "active_learning_settings.yaml", "max_MD_steps: 400", "max_MD_steps: 80")
    output = succeed(folder, 1)
    assert "trajectory 0: reinstated" in output and "trajectory 1: reinstated" in output
    trajectories = state(folder)["active"]["trajectories"]
    assert {t["status"] for t in trajectories} == {"done"}
    rollbacks = sum(t["rollbacks"] for t in trajectories)
    assert rollbacks >= 4
    assert f"MD that had to go back: {rollbacks} times; trajectories retired: 0" in output


def in_training(folder: Path, n_epochs: int) -> None:
    """Let the trajectory that is in training have trained so long."""
    (snapshot,) = (folder / "restart").glob("snapshot-*")
    content = json.loads((snapshot / "run.json").read_text())
    (one,) = [t for t in content["state"]["active"]["trajectories"] if t["status"] == "training"]
    one["epochs"] = n_epochs
    put(snapshot, "run.json", json.dumps(content).encode())


@pytest.mark.parametrize(
    ("n_epochs", "limits", "message"),
    [
        (
            4,
            {"max_epochs_worker": 2, "intermediate_epochs": 2, "max_MD_steps": 15},
            "trajectory 1: leaves training after 4 epochs, max_epochs_worker was lowered",
        ),
        (0, {"max_MD_steps": 8}, "trajectory 0: done after 10 MD steps, max_MD_steps was lowered"),
    ],
)
def test_trajectories_beyond_a_lowered_limit_go_on_under_it(
    tmp_path, n_epochs: int, limits: dict[str, Any], message: str
) -> None:
    # Both have done 10 MD steps; one runs, the other is in training.
    folder = old_run(tmp_path / "run", 5, **OLD_SETTINGS[5], **limits)
    in_training(folder, n_epochs)
    checks = journal(folder, "check")
    output = succeed(folder, 1)
    assert message in output
    assert "while all trajectories wait" not in output
    steps = [check["md_step"] for check in journal(folder, "check")[len(checks) :]]
    assert set(steps) == ({15} if n_epochs else set())
    assert {t["status"] for t in state(folder)["active"]["trajectories"]} == {"done"}
    assert datasets(folder)


def test_the_others_go_on_without_a_retired_trajectory(tmp_path) -> None:
    # Seeded: one of the two meets an overlap twice before its restart point moves on.
    folder = old_run(tmp_path / "run", 1, max_rollbacks=2, min_distance=0.95)
    output = succeed(folder, 1)
    assert output.count("retired at MD step") == 1
    statuses = [t["status"] for t in state(folder)["active"]["trajectories"]]
    assert sorted(statuses) == ["done", "retired"]
    assert "all trajectories but the 1 that were retired have done max_MD_steps" in output


def test_an_ensemble_that_cannot_be_trained_stops_the_run(tmp_path) -> None:
    folder = old_run(tmp_path / "run", 1, c_x=0.9, max_MD_steps=80)
    store = folder / "restart" / "labels.jsonl"
    good = store.read_bytes()
    make_absurd(store, trained_on(folder))
    code, output = run(folder, 2)
    assert code == 1, output
    for member in (0, 1):
        assert output.count(f"member {member}: training diverged") == 3
    assert "members 0, 1 diverged in 3 training rounds in a row (max_training_failures)" in output
    assert "Lower TRAINING.lr" in output and "Traceback" not in output
    n_labels = len(store.read_bytes().splitlines())
    added = b"".join(store.read_bytes().splitlines(keepends=True)[len(good.splitlines()) :])
    store.write_bytes(good + added)
    rewrite(folder, "mace_settings.yaml", "lr: 0.02", "lr: 0.01")
    rewrite(folder, "active_learning_settings.yaml", "c_x: 0.9", "c_x: 0.0")
    output = succeed(folder, 1)
    assert "changed since the snapshot: TRAINING.lr: 0.02 -> 0.01" in output
    assert "every member's optimizer starts afresh" in output
    assert "diverged" not in output
    assert len(labels(folder)) >= n_labels
    assert state(folder)["training_failures_in_row"] == [0, 0]
    assert_finite_weights(folder)


def trained_on(folder: Path) -> str:
    """Key of a label that both members train on: one of active learning."""
    (snapshot,) = (folder / "restart").glob("snapshot-*")
    first, second = json.loads((snapshot / "run.json").read_text())["sets"]
    return next(key for key in first["training"] if key in second["training"])


def make_absurd(store: Path, key: str) -> None:
    """Give a stored label forces whose square no float32 holds."""
    lines = store.read_text().splitlines()
    (place,) = (n for n, line in enumerate(lines) if json.loads(line)["label"]["key"] == key)
    label = json.loads(lines[place])["label"]
    label["forces"] = [[1e25, 0.0, 0.0] for _ in label["forces"]]
    text = json.dumps(label, separators=(",", ":"))
    lines[place] = f'{{"crc":{zlib.crc32(text.encode())},"label":{text}}}'
    store.write_text("\n".join(lines) + "\n")


def begun_with(folder: Path, **values: Any) -> None:
    """Let the old snapshot have been written with other AL settings than it was."""
    (snapshot,) = (folder / "restart").glob("snapshot-*")
    content = json.loads((snapshot / "run.json").read_text())
    content["settings"] |= {f"ACTIVE_LEARNING.{key}": value for key, value in values.items()}
    put(snapshot, "run.json", json.dumps(content).encode())


def put(snapshot: Path, name: str, content: bytes) -> None:
    """Replace a file of a snapshot and its checksum."""
    (snapshot / name).write_bytes(content)
    manifest = json.loads((snapshot / "manifest.json").read_text())
    manifest["files"][name] = {
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    (snapshot / "manifest.json").write_text(json.dumps(manifest))


def spoil_optimizer(folder: Path, member: int) -> None:
    """Let the next training step of a member make all its weights NaN."""
    (snapshot,) = (folder / "restart").glob("snapshot-*")
    name = f"member_{member}.pt"
    saved = torch.load(snapshot / name, weights_only=True)
    history = saved["optimisation"]["optimizer"]["state"]
    assert history
    for each in history.values():
        each["exp_avg"].fill_(torch.nan)
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    put(snapshot, name, buffer.getvalue())


def test_a_member_whose_weights_become_nan_goes_back_and_the_run_ends(tmp_path) -> None:
    folder = old_run(tmp_path / "run", 1)
    n_epochs = len(journal(folder, "epoch"))
    spoil_optimizer(folder, 0)
    output = succeed(folder, 1)
    assert output.count("member 0: training diverged (losses ") == 1  # a fresh one is sound
    assert "member 1: training diverged" not in output
    assert "Traceback" not in output
    assert state(folder)["training_failures_in_row"] == [0, 0]
    losses = [e["training_loss"] for e in journal(folder, "epoch")[n_epochs:] if e["member"] == 0]
    n_bad = sum(not math.isfinite(loss) for loss in losses)
    assert 0 < n_bad < len(losses)
    assert all(map(math.isfinite, losses[-5:]))
    assert_finite_weights(folder)
    assert len(list((folder / "model").glob("*.model"))) == 2


def assert_finite_weights(folder: Path) -> None:
    """Neither member's weights, nor their moving average, hold NaN or infinity."""
    newest = sorted((folder / "restart").glob("snapshot-*"))[-1]
    for index in (0, 1):
        saved = torch.load(newest / f"member_{index}.pt", weights_only=True)
        average = saved["optimisation"]["average"]["shadow_params"]
        tensors = [*saved["model"].values(), *average]
        assert tensors and all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def from_python(script: str, folder: Path) -> str:
    """What a script prints that drives a run from Python, on a forked rank."""
    done = subprocess.run(
        [*preloaded(str(Path(__file__).parent / "scripts" / script), mace=True), str(folder)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_uncertainty_of_ones_own_decides_on_labels(tmp_path) -> None:
    folder = old_run(tmp_path / "run", 1)
    before = journal(folder, "check")
    printed = from_python("own_uncertainty.py", folder)
    returned = json.loads(printed.rpartition("RETURNED ")[2])
    checks = journal(folder, "check")[len(before) :]
    assert checks and {check["uncertainty"] for check in checks} <= set(returned)
    assert all(
        check["crosses"] == (check["uncertainty"] > check["threshold"])
        for check in checks
        if check["threshold"] is not None
    )
    # True errors are reduced in the same way, so that they can be compared.
    errors = {entry["true_error"] for entry in journal(folder, "calibration")}
    assert errors and errors <= set(returned)


def test_snapshots_do_not_grow_with_the_steps(tmp_path) -> None:
    often: dict[str, Any] = {"skip_step_mlff": 1, "threshold_window": 3}
    # Nothing crosses the threshold, so the datasets stay as they are.
    folder = old_run(tmp_path / "run", 1, c_x=-50.0, max_MD_steps=75, analysis=False, **often)
    begun_with(folder, **often)
    printed = from_python("snapshot_sizes.py", folder)
    journal_bytes, snapshot_bytes = zip(*json.loads(printed.rpartition("SIZES ")[2]), strict=True)
    assert len(snapshot_bytes) == 100
    early, late = snapshot_bytes[10], snapshot_bytes[-1]
    assert journal_bytes[-1] - journal_bytes[10] > 10_000  # there was much to write down
    assert abs(late - early) < 300  # numbers have more or fewer digits
