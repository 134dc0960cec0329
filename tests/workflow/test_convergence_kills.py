"""A convergence that is killed in either stage ends as the unbroken one, to the last bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from run_folder import (
    SMALLEST,
    assert_same_end,
    journal,
    kill_all,
    snapshots,
    start,
    succeed,
    wait_until,
    write_inputs,
)

pytestmark = [pytest.mark.mpi, pytest.mark.real]

LONG_CONVERGENCE = {
    **SMALLEST,
    "max_initial_epochs": 4,
    "n_samples": 3,
    "max_final_epochs": 80,
    "patience": 80,
    "training_ranks": "auto",
    "analysis": True,
}
SWA = {"swa": True, "start_swa": 40, "swa_lr": 0.02, "swa_energy_weight": 500.0}


def inputs(folder: Path, *, swa: bool = True, **active_learning: Any) -> Path:
    return write_inputs(
        folder,
        mace={"TRAINING": SWA if swa else {}},
        active_learning={"ACTIVE_LEARNING": {**LONG_CONVERGENCE, **active_learning}},
    )


def last_epoch(folder: Path) -> int:
    """The last epoch of the final convergence in the newest snapshot; 0 before."""
    state = convergence_state(folder)
    return state["course"]["forces"]["epoch"] if state else 0


def convergence_state(folder: Path) -> dict[str, Any] | None:
    for snapshot in reversed(snapshots(folder)):
        try:
            found: dict[str, Any] | None = json.loads((snapshot / "run.json").read_text())["state"][
                "convergence"
            ]
        except (OSError, ValueError):  # being written, or removed meanwhile
            continue
        return found
    return None


def test_killed_in_both_stages(tmp_path: Path) -> None:
    unbroken = inputs(tmp_path / "unbroken")
    output = succeed(unbroken)
    assert "second stage after 40 epochs" in output
    folder = inputs(tmp_path / "run")
    for ranks, epoch, stage in ((1, 10, "first"), (2, 50, "second")):
        job = start(folder, ranks)
        wait_until(job, lambda epoch=epoch: last_epoch(folder) >= epoch, f"{epoch} epochs")
        kill_all(job)
        state = convergence_state(folder)
        assert state is not None and state["stages"][-1]["stage"] == stage
        assert len(list(snapshots(folder)[-1].glob("best_second_*.pt"))) == 2 * (stage == "second")
    succeed(folder)
    assert_same_end(folder, unbroken)
    rates = {e["epoch"]: e["learning_rate"] for e in journal(unbroken, "epoch")}
    assert rates[80] == 0.02


def test_a_convergence_anew_is_killed_and_goes_on(tmp_path: Path) -> None:
    """Without a second stage, and of the best member only."""
    changes = {"converge_from": "fresh", "converge_best": True}
    unbroken = inputs(tmp_path / "unbroken", swa=False, **changes)
    assert "final convergence: from initial weights, on all labels" in succeed(unbroken)
    folder = inputs(tmp_path / "run", swa=False, **changes)
    job = start(folder, 1)
    wait_until(job, lambda: last_epoch(folder) >= 10, "10 epochs")
    kill_all(job)
    assert len(list(snapshots(folder)[-1].glob("best_before_*.pt"))) == 1
    succeed(folder, 2)
    assert_same_end(folder, unbroken)
