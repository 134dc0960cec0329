"""What is made of labels that are paid for: budgets, shared sets, sanity checks, MD steps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from ase.io import read
from run_folder import (
    assert_same_end,
    copy_of,
    journal,
    kill_all,
    labels,
    start,
    succeed,
    wait_for_labels,
    write_inputs,
)

pytestmark = [pytest.mark.mpi, pytest.mark.real]

# The defaults, which the other tests of runs leave aside.
DEFAULTS: dict[str, Any] = {
    "intermediate_gain": 0.1,
    "sanity_action": "add_all",
    "final_sets": "all",
    "c_x": 0.3,
}
SAMPLED = {
    "initial_sampling": "foundation",
    "foundation_calculator": "tblite.ase.TBLite",
    "foundation_arguments": {"method": "GFN1-xTB", "verbosity": 0},
}


def folder_of(path: Path, **changes: Any) -> Path:
    return write_inputs(path, active_learning={"ACTIVE_LEARNING": {**DEFAULTS, **changes}})


# Where a structure comes from: of the initial dataset?, trajectory, MD step.
Place = tuple[bool, int, int]


def members(folder: Path, kind: str) -> list[set[Place]]:
    """The structures of each member's final training or validation set."""
    files = sorted((folder / "data" / "final" / kind).glob("water_*.xyz"))
    return [{place(atoms.info) for atoms in read(file, ":")} for file in files]


def place(info: dict[str, Any]) -> Place:
    return info["config_type"] == "initial", int(info["trajectory"]), int(info["md_step"])


def places(folder: Path, *phases: str) -> set[Place]:
    """The structures of the store that were labelled in some phases."""
    origins = [record["origin"] for record in labels(folder)]
    return {
        (each["phase"] == "initial", each["trajectory"], each["step"])
        for each in origins
        if each["phase"] in phases
    }


def test_a_budget_is_not_exceeded_and_active_learning_gets_its_share(tmp_path) -> None:
    changes = {**SAMPLED, "label_budget": 26, "n_samples": 3, "max_MD_steps": None}
    changes |= {"intermediate_gain": None, "max_initial_epochs": 50, "c_x": 0.9}
    folder = folder_of(tmp_path / "run", **changes)
    output = succeed(folder)
    phases = [record["origin"]["phase"] for record in labels(folder)]
    assert len(phases) == 26
    # Rounds of six points: a third one would be more than half of the budget.
    assert phases.count("initial") == 12
    assert "active learning stops: 26 labels are computed (label_budget = 26)" in output
    assert phases.count("active_learning") + phases.count("sanity") == 14
    assert "labels: 26 computed, of which 0 discarded (initial dataset 12, active" in output


def test_a_budget_counts_what_a_killed_run_has_not_asked_for_again_when_it_asks(tmp_path) -> None:
    """Labels that are in the store, and in no snapshot, are not spent before they are taken."""
    changes = {**SAMPLED, "label_budget": 26, "n_samples": 3, "max_MD_steps": None}
    changes |= {"intermediate_gain": None, "max_initial_epochs": 50, "c_x": 0.9}
    folder = folder_of(tmp_path / "run", **changes)
    killed = copy_of(folder, tmp_path / "killed")
    succeed(folder)
    # Killed in the second round of six points, and when active learning has four labels to go.
    # With snapshots at the ends of the phases only.
    late = ("--set", "MISC.snapshot_interval=1000.0")
    for n_labels in (9, 22):
        job = start(killed, 1, *late)
        wait_for_labels(job, killed, n_labels)
        kill_all(job)
        assert n_labels <= len(labels(killed)) < 26
    succeed(killed, 1, *late)
    assert_same_end(killed, folder)


def test_no_second_round_beside_training_that_the_budget_has_no_labels_for(tmp_path) -> None:
    """While models are trained on the first round, in parallel mode the next one is sampled."""
    changes = {**SAMPLED, "label_budget": 9, "n_samples": 3, "parallel": True}
    folder = folder_of(tmp_path / "run", **changes, intermediate_gain=None)
    output = succeed(folder, 2, command="FHI_AL-initial-ds")
    assert len(labels(folder)) == 6
    assert "another round would exceed its share of label_budget, 4.5" in output


def test_points_are_paid_for_when_training_helps_no_more(tmp_path) -> None:
    changes = {**SAMPLED, "max_MD_steps": 10}
    patient = folder_of(tmp_path / "patient", **changes, intermediate_gain=1e-6)
    hasty = folder_of(tmp_path / "hasty", **changes, intermediate_gain=None)
    sizes = []
    for folder in (patient, hasty):
        succeed(folder, command="FHI_AL-initial-ds")
        sizes.append([e["n_training"] for e in journal(folder, "ensemble")])
    # Two rounds of training each: the second one on the points of the first one, or on new ones.
    assert sizes[0][0] == sizes[0][1]
    assert sizes[1][0] < sizes[1][1]
    assert len(labels(patient)) < len(labels(hasty))


@pytest.mark.parametrize("ranks", [1, 2])
def test_active_learning_begins_when_training_helps_no_more(tmp_path, ranks: int) -> None:
    """The target is reached at once, by models that have hardly been trained."""
    changes = {**SAMPLED, "lambda": 1e6, "max_initial_epochs": 500, "parallel": ranks > 1}
    changes["initial_sets"] = "shared"
    folder = write_inputs(
        tmp_path / "run",
        models="mace",
        mace={"TRAINING": {"lr": 0.005}},
        active_learning={"ACTIVE_LEARNING": {**DEFAULTS, **changes}},
    )
    succeed(folder, ranks, command="FHI_AL-initial-ds")
    rounds = journal(folder, "ensemble")
    assert len(rounds) > 2 and rounds[-1]["epoch"] < 500
    lowest = [min(e["mae_forces"] for e in rounds[:k]) for k in range(1, len(rounds))]
    helped = [e["mae_forces"] < 0.9 * best for e, best in zip(rounds[1:], lowest, strict=True)]
    assert helped == [True] * (len(helped) - 1) + [False]
    # One round of points, and the one that was sampled while the first was trained on.
    assert len(labels(folder)) <= 10 * ranks
    assert len({e["n_training"] for e in rounds}) <= ranks


def test_shared_sets_hold_every_point_and_folds_of_their_own(tmp_path) -> None:
    changes = {"initial_sets": "shared", "sanity_action": "record", "final_sets": "own"}
    folder = folder_of(tmp_path / "run", **SAMPLED, **changes)
    succeed(folder)
    training, validation = members(folder, "training"), members(folder, "validation")
    points = training[0] | validation[0]
    for train, valid in zip(training, validation, strict=True):
        assert train | valid == points
        assert not train & valid
        assert len(valid) >= 1
    assert not validation[0] & validation[1]
    assert places(folder, "initial") | places(folder, "active_learning") == points
    assert places(folder, "active_learning")


def test_active_learning_may_add_as_much_to_shared_points_as_to_own_ones(tmp_path) -> None:
    changes = {"initial_sets": "shared", "final_sets": "own", "analysis": False, "c_x": 0.9}
    changes |= {"max_set_size": 8, "max_MD_steps": None, "converge_al": False}
    folder = folder_of(tmp_path / "run", **SAMPLED, **changes)
    output = succeed(folder)
    assert "active learning stops: the training set has 8 points (max_set_size = 8)" in output
    training = members(folder, "training")[0]
    n_initial = sum(is_initial for is_initial, _, _ in training)
    assert len(training) - n_initial == 8 - math.ceil(n_initial / 2)


def test_in_the_end_all_labels_are_trained_on_however_often_it_is_killed(tmp_path) -> None:
    folder = folder_of(tmp_path / "run", max_set_size=12)
    killed = copy_of(folder, tmp_path / "killed")
    output = succeed(folder)
    training, validation = members(folder, "training"), members(folder, "validation")
    steps, paid = places(folder, "initial"), places(folder, "active_learning", "sanity")
    assert places(folder, "sanity")
    for train, valid in zip(training, validation, strict=True):
        assert paid <= train | valid
        # Of the steps of the ab initio MD those of the first sets, and some of the others.
        assert 10 < len((train | valid) & steps) < len(steps)
    assert "every member trains on all labels but its own validation points" in output
    job = start(killed, 1)
    wait_for_labels(job, killed, len(labels(folder)) - 1)
    kill_all(job)
    succeed(killed)
    assert_same_end(killed, folder)


def test_the_best_member_trains_on_the_points_of_the_others(tmp_path) -> None:
    changes = {"converge_best": True, "sanity_action": "record", "max_final_epochs": 2}
    folder = folder_of(tmp_path / "run", **SAMPLED, **changes)
    succeed(folder)
    every = places(folder, "initial", "active_learning", "sanity")
    sets = zip(members(folder, "training"), members(folder, "validation"), strict=True)
    assert sorted(train | valid == every for train, valid in sets) == [False, True]
