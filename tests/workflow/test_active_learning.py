"""What active learning and convergence promise, seen on runs with real models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from run_folder import journal, succeed, write_inputs

pytestmark = [pytest.mark.mpi, pytest.mark.real]


def final_state(folder: Path) -> dict[str, Any]:
    newest = sorted((folder / "restart").glob("snapshot-*"))[-1]
    return json.loads((newest / "run.json").read_text())["state"]


def test_convergence_ends_with_every_members_best_weights(finished_run) -> None:
    """By forces and energies on all points that the member has not trained on."""
    folder = finished_run("tblite", 1)
    epochs = journal(folder, "epoch")
    best = []
    for member in (0, 1):
        mine = [e for e in epochs if e["member"] == member and e["mae_forces"] is not None]
        maes = {0: [e["mae_forces"] for e in mine if e["phase"] != "final convergence"][-1]}
        maes |= {e["epoch"]: e["mae_forces"] for e in mine if e["phase"] == "final convergence"}
        compared = [
            e
            for e in journal(folder, "unseen")
            if e["member"] == member and e["phase"] == "final convergence"
        ]
        assert [e["epoch"] for e in compared] == [0, 5] == list(maes)
        assert all(e["n_points"] > mine[-1]["n_validation"] for e in compared)
        kept = min(compared, key=lambda e: e["mae_forces"] * e["mae_energy_per_atom"])
        best.append(maes[kept["epoch"]])
    errors = final_state(folder)["errors"]
    assert errors["unseen"]["n_points"] > errors["validation"]["n_points"]
    assert errors["md"]["n_sanity"] == len(journal(folder, "sanity"))
    output = (folder / "output.txt").read_text()
    assert "cross-validation, on all points that a member has not trained on: forces" in output
    assert final_state(folder)["final_mae_forces"] == pytest.approx(sum(best) / 2, rel=1e-12)


def test_the_second_point_of_the_phase_goes_to_validation(finished_run) -> None:
    active = final_state(finished_run("tblite", 1))["active"]
    assert active["n_points"] >= 1
    assert active["n_validation"] == (0 if active["n_points"] == 1 else 1)


def test_trajectories_do_all_their_steps(finished_run) -> None:
    active = final_state(finished_run("asi", 3))["active"]
    assert [t["step"] for t in active["trajectories"]] == [40, 40]
    assert {t["status"] for t in active["trajectories"]} == {"done"}


def test_members_take_turns_and_sanity_checks_add_points(tmp_path) -> None:
    folder = write_inputs(
        tmp_path / "run",
        active_learning={
            "ACTIVE_LEARNING": {
                "md_forces": "member",
                "sanity_action": "add",
                "uncertainty_type": "ensemble_sd",
                "c_x": -50.0,  # nothing crosses: every point that joins is a sanity check's
                "converge_initial": True,
                "margin": 0.001,
                "max_final_epochs": 5,
            },
            "MD": {"thermostat": "Bussi"},
        },
    )
    succeed(folder, 2)
    assert not any(check["crosses"] for check in journal(folder, "check"))
    joined = [check["joined"] for check in journal(folder, "sanity")]
    assert True in joined and False in joined
    active = final_state(folder)["active"]
    assert active["n_points"] == sum(joined)
    phases = [entry["phase"] for entry in journal(folder, "ensemble")]
    order = ["initial", "initial convergence", "active learning", "final convergence"]
    assert sorted(phases, key=order.index) == phases
    assert set(phases) == set(order)


def test_where_errors_stand_optimizers_start_afresh_and_rates_fall(tmp_path) -> None:
    folder = write_inputs(
        tmp_path / "run",
        mace={"TRAINING": {"lr": 1e-7}},  # nothing can improve
        active_learning={
            "ACTIVE_LEARNING": {
                "c_x": 0.9,  # nearly every check asks for a label
                "margin": 0.01,
                "valid_ratio": 0.01,
                "valid_skip": 1,
                "max_final_epochs": 5,
            }
        },
    )
    output = succeed(folder, 1)
    assert "no improvement for 5 epochs, its optimizer starts afresh" in output
    rates: dict[str, list[float]] = {}
    for entry in journal(folder, "epoch"):
        if entry["member"] == 0:
            rates.setdefault(entry["phase"], []).append(entry["learning_rate"])
    # The first epoch sets the error to beat; the rate falls at every second one that does not.
    assert rates["initial"] == pytest.approx(
        [1e-7 * 0.8**n for n in (0, 0, 0, 1, 1, 2, 2, 3, 3, 4)], rel=1e-12
    )
    assert set(rates["active learning"]) == {1e-7}
    assert rates["final convergence"] == pytest.approx(
        [1e-7 * 0.8**n for n in (0, 0, 0, 1, 1)], rel=1e-12
    )


def test_the_training_set_stops_at_its_limit(tmp_path) -> None:
    folder = write_inputs(
        tmp_path / "run",
        active_learning={"ACTIVE_LEARNING": {"c_x": 0.9, "max_set_size": 10, "converge_al": False}},
    )
    output = succeed(folder, 1)
    assert "the training set has 10 points (max_set_size = 10)" in output
    sizes = [entry["n_training"] for entry in journal(folder, "epoch")]
    assert max(sizes) == 10
