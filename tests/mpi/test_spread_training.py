"""Training spread over ranks is that of one rank, bit for bit; under a real mpirun."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from asi.harness import run_mpi

pytestmark = [pytest.mark.mpi, pytest.mark.real]

ALL_EPOCHS = [[epoch, member] for epoch in (1, 2) for member in range(4)]
# Importing torch and building models takes 10 s for every rank: few jobs, with much in each.
JOBS = {
    "0,1": (2, ["same_numbers", "meanwhile"]),
    "1,2": (3, ["same_numbers", "meanwhile", "failing"]),
    "0,1,2": (3, ["what_is_sent", "validation_is_not_repeated", "given_up"]),
}


@functools.cache
def found_on(training_ranks: str) -> dict[str, Any]:
    """What a job reported, by the names of its parts."""
    n_ranks, parts = JOBS[training_ranks]
    job = run_mpi("spread_training.py", n_ranks, training_ranks, *parts, timeout_s=400)
    assert job.exit_code == 0, job.output
    found: dict[str, Any] = job.result
    return found


@pytest.mark.parametrize("training_ranks", ["0,1", "1,2"])
def test_members_are_the_same_wherever_they_are_trained(training_ranks: str) -> None:
    found = found_on(training_ranks)["same_numbers"]
    assert len(found["alone"]) == 6
    for visit, (alone, apart) in enumerate(zip(found["alone"], found["apart"], strict=True)):
        for what in ("records", "states", "forces", "errors"):
            assert apart[what] == alone[what], f"{what} of visit {visit}"
    # Every visit has changed all that it trained, so that equal is not equal by standing still.
    states = [visit["states"] for visit in found["alone"]]
    assert len({state for visit in states for state in visit}) == 4 * 6 - 3  # one trained 1 member
    assert found["busy"] == [int(rank) for rank in training_ranks.split(",")]
    assert found["least busy"] > 0.1


def test_only_what_is_new_is_sent() -> None:
    sizes = found_on("0,1,2")["what_is_sent"]
    # 3000 float64 numbers and more: weights, average and history of the optimizer.
    assert min(sizes["first"]) > sizes["weights"] * 8
    assert len(sizes["nothing new"]) == 2
    assert max(sizes["nothing new"]) < 1000
    assert max(sizes["nothing new"]) + 200 < min(sizes["one label"]) < 2000
    # Member 1 is trained on rank 1.
    changed, unchanged = sizes["one state"]
    assert changed > sizes["weights"] * 8
    assert unchanged < 1000


def test_errors_that_came_with_a_state_are_not_computed_again() -> None:
    seconds = found_on("0,1,2")["validation_is_not_repeated"]
    assert seconds["after the visit"] < 0.1 * seconds["after a change"]


@pytest.mark.parametrize("training_ranks", ["0,1", "1,2"])
def test_members_predict_as_before_until_the_visit_is_finished(training_ranks: str) -> None:
    found = found_on(training_ranks)["meanwhile"]
    assert found["versions"] == 1
    assert found["changed"]
    assert found["steady"]
    assert "member 0 is being trained" in found["refused"]
    assert found["records"] == ALL_EPOCHS
    assert found["finished"]
    assert not found["advance"]
    # 2 batches and a validation for each epoch of each member trained here, at least a look else.
    assert found["calls"] >= {"0,1": 2 * 2 * (2 + 1), "1,2": 2}[training_ranks]


def test_failure_on_a_training_rank_is_raised_on_rank_0_and_a_diverged_member_is_not_one() -> None:
    found = found_on("1,2")["failing"]
    assert found["error"].startswith("training failed on rank 2: ValueError: label broken cannot")
    # Half-trained members are not written into a snapshot by mistake.
    assert "member 1 is being trained" in found["state"]
    # Loaded again, they go on, on a rank that was set up anew.
    assert found["again"] == [True] * 4
    assert found["diverged"] == [False, False, False, True]
    assert found["finite"] == [True, True, True, False]


def test_visit_that_is_given_up_frees_the_ranks_soon() -> None:
    found = found_on("0,1,2")["given_up"]
    assert found["raised"]
    assert found["took"] < 30  # of 100 000 epochs
    assert found["found"] == found["alone"]
