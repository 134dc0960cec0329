"""Training spread over ranks is that of one rank, bit for bit; under a real mpirun."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from asi.harness import run_mpi
from filelock import FileLock

pytestmark = [pytest.mark.mpi, pytest.mark.real]

ALL_EPOCHS = [[epoch, member] for epoch in (1, 2) for member in range(4)]
# Importing torch and building models takes seconds for every rank: few jobs, with much in each;
# MACE on the first only.
JOBS = {
    "0,1": (2, "mace", ["same_numbers", "meanwhile", "predictions"]),
    "1,2": (3, "pair", ["same_numbers", "meanwhile", "predictions", "failing"]),
    "0,1,2": (3, "pair", ["what_is_sent", "validation_is_not_repeated", "given_up"]),
}


Found = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="session")
def found_on(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What a job on some training ranks reported, by the names of its parts.

    The processes of pytest-xdist share the jobs: the first that needs one runs it.
    """
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder

    def get(training_ranks: str) -> dict[str, Any]:
        report = folder / f"remote_training_{training_ranks}.json"
        with FileLock(f"{report}.lock"):
            if not report.exists():
                n_ranks, models, parts = JOBS[training_ranks]
                arguments = (training_ranks, models, *parts)
                job = run_mpi(
                    "remote_training.py",
                    n_ranks,
                    *arguments,
                    timeout_s=400,
                    preload="mace" if models == "mace" else "torch",
                )
                assert job.exit_code == 0, job.output
                report.write_text(json.dumps(job.result))
        found: dict[str, Any] = json.loads(report.read_text())
        return found

    return get


@pytest.mark.parametrize("training_ranks", ["0,1", "1,2"])
def test_members_are_the_same_wherever_they_are_trained(
    found_on: Found, training_ranks: str
) -> None:
    found = found_on(training_ranks)["same_numbers"]
    assert len(found["alone"]) == 6
    for training_round, (alone, apart) in enumerate(
        zip(found["alone"], found["apart"], strict=True)
    ):
        for what in ("records", "states", "forces", "errors"):
            assert apart[what] == alone[what], f"{what} of round {training_round}"
    # Every round has changed all that it trained, so that equal is not equal by standing still.
    states = [training_round["states"] for training_round in found["alone"]]
    assert (
        len({state for training_round in states for state in training_round}) == 4 * 6 - 3
    )  # one trained 1 member
    assert found["busy"] == [int(rank) for rank in training_ranks.split(",")]
    assert found["least busy"] > 0.01


def test_only_what_is_new_is_sent(found_on: Found) -> None:
    sizes = found_on("0,1,2")["what_is_sent"]
    # Float64 numbers, twice and more: weights, average and history of the optimizer.
    assert min(sizes["first"]) > sizes["weights"] * 8
    assert len(sizes["nothing new"]) == 2
    assert max(sizes["nothing new"]) < 1000
    assert max(sizes["nothing new"]) + 200 < min(sizes["one label"]) < 2000
    # Member 1 is trained on rank 1.
    changed, unchanged = sizes["one state"]
    assert changed > sizes["weights"] * 8
    assert unchanged < 1000


def test_errors_that_came_with_a_state_are_not_computed_again(found_on: Found) -> None:
    seconds = found_on("0,1,2")["validation_is_not_repeated"]
    assert seconds["after the round"] < 0.1 * seconds["after a change"]


@pytest.mark.parametrize("training_ranks", ["0,1", "1,2"])
def test_members_predict_as_before_until_the_round_is_finished(
    found_on: Found, training_ranks: str
) -> None:
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


def test_failure_on_a_training_rank_is_raised_on_rank_0_and_a_diverged_member_is_not_one(
    found_on: Found,
) -> None:
    found = found_on("1,2")["failing"]
    assert found["error"].startswith("training failed on rank 2: ValueError: label broken cannot")
    # Half-trained members are not written into a snapshot by mistake.
    assert "member 1 is being trained" in found["state"]
    # Loaded again, they go on, on a rank that was set up anew.
    assert found["again"] == [True] * 4
    assert found["diverged"] == [False, False, False, True]
    assert found["finite"] == [True, True, True, False]


def test_round_that_is_given_up_frees_the_ranks_soon(found_on: Found) -> None:
    found = found_on("0,1,2")["given_up"]
    assert found["raised"]
    assert found["took"] < 30  # of 100 000 epochs
    assert found["found"] == found["alone"]


@pytest.mark.parametrize("training_ranks", ["0,1", "1,2"])
def test_predictions_are_the_same_wherever_they_are_made(
    found_on: Found, training_ranks: str
) -> None:
    found = found_on(training_ranks)["predictions"]
    first, second = found["differences"][:10], found["differences"][10:]
    assert [len(each) for each in first] == 3 * [1, 5, 0] + [5]
    # With a member for every rank nothing is split, and the numbers are the same bit by bit.
    for before_and_after in (first, second):
        assert before_and_after[0] == [0.0]
        assert before_and_after[1] == [0.0] * 5
        assert before_and_after[7] == [0.0] * 5
    assert max(value for each in found["differences"] for value in each) < 1e-12  # eV/A


@pytest.mark.parametrize("training_ranks", ["0,1", "1,2"])
def test_stress_is_predicted_where_it_is_asked_for(found_on: Found, training_ranks: str) -> None:
    found = found_on(training_ranks)["predictions"]
    *crystals, molecule = found["stress"]
    assert crystals == [0.0] * 3
    assert molecule != molecule  # NaN: it has none
    assert min(found["sizes of it"][:3]) > 1e-6  # eV/A^3
    assert found["without"] == [True] * 4


@pytest.mark.parametrize("training_ranks", ["0,1", "1,2"])
def test_two_precisions_are_predicted_with_on_the_same_ranks(
    found_on: Found, training_ranks: str
) -> None:
    single, as_trained, between = found_on(training_ranks)["predictions"]["precisions"]
    assert max(single) == max(as_trained) == 0.0
    assert all(1e-9 < difference < 1e-3 for difference in between)  # eV, eV/A: float32


def test_weights_are_sent_to_predict_with_when_they_have_changed(found_on: Found) -> None:
    sent = found_on("0,1")["predictions"]["sent"]
    once, many = sent[0], sent[1]
    assert once > 10 * many  # two members' weights
    assert max(sent[2:9]) < 2 * once  # those of member 2 are new to rank 1
    assert sent[9] == 0
    assert sent[10] > 10 * many
