"""Which set a point joins, whether an error still falls, and when a phase ends."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from fhi_al.core.improvement import BestError, improves, with_error
from fhi_al.core.split import bootstrap_count, goes_to_validation, validates
from fhi_al.core.stopping import (
    NobodyLeft,
    StopRules,
    active_learning_stop,
    convergence_stop,
    initial_stop,
)
from fhi_al.core.trajectory import Status, TrajectoryState


def validation_points(valid_ratio: float, n_points: int) -> list[bool]:
    places: list[bool] = []
    for n in range(n_points):
        places.append(goes_to_validation(sum(places), n, valid_ratio))
    return places


@pytest.mark.parametrize("valid_ratio", [0.01, 0.1, 0.25, 1 / 3, 0.5, 0.75, 0.9])
def test_validation_gets_its_share_at_any_time(valid_ratio: float) -> None:
    places = validation_points(valid_ratio, 100)
    for n in range(1, 101):
        # Never more than one point ahead of the ratio, never behind by a whole one.
        assert -1.0 <= sum(places[:n]) - valid_ratio * n <= 1.0


@pytest.mark.parametrize("valid_ratio", [0.01, 0.1, 0.5, 0.9])
def test_the_first_point_goes_to_training_and_the_second_to_validation(valid_ratio: float) -> None:
    assert validation_points(valid_ratio, 2) == [False, True]


def test_validation_that_is_full_waits_for_its_share() -> None:
    # 0.1: after the second point validation has enough until there are more than ten.
    assert [n for n, place in enumerate(validation_points(0.1, 32)) if place] == [1, 11, 21, 31]


def test_a_drop_counts_only_beyond_the_margin() -> None:
    assert improves(1.0, 0.99, margin=0.0)
    assert not improves(1.0, 1.0, margin=0.0)
    assert improves(1.0, 0.7, margin=0.25)
    assert not improves(1.0, 0.75, margin=0.25)
    assert improves(math.inf, 5.0, margin=0.25)


def test_nan_never_improves_and_never_becomes_the_best() -> None:
    assert not improves(math.inf, math.nan, margin=0.0)
    history = with_error(with_error(BestError(), math.nan, 1, 0.0), 0.5, 2, 0.0)
    assert history == BestError(best=0.5, best_epoch=2, epoch=2)
    assert with_error(history, math.nan, 3, 0.0) == BestError(best=0.5, best_epoch=2, epoch=3)


def test_slow_drops_add_up_against_the_last_best() -> None:
    """Drops smaller than the margin do not move the best, so their sum counts in the end."""
    history = BestError(best=1.0)
    for epoch, error in enumerate([0.96, 0.92, 0.88], start=1):
        history = with_error(history, error, epoch, margin=0.1)
    assert history == BestError(best=0.88, best_epoch=3, epoch=3)


def test_patience_counts_epochs_since_the_best() -> None:
    history = with_error(with_error(BestError(), 0.5, 4, 0.0), 0.6, 10, 0.0)
    assert history.epochs_without_improvement == 6
    assert convergence_stop(history, patience=7, max_epochs=100) is None
    assert convergence_stop(history, patience=6, max_epochs=100) == "no improvement for 6 epochs"


def test_a_convergence_ends_at_its_last_epoch() -> None:
    history = BestError(best=0.5, best_epoch=10, epoch=10)
    assert convergence_stop(history, patience=5, max_epochs=11) is None
    assert "max_final_epochs = 10" in str(convergence_stop(history, patience=5, max_epochs=10))


def test_the_initial_dataset_is_complete_at_its_target_or_last_epoch() -> None:
    assert initial_stop(None, 0.1, epochs=0, max_epochs=5) is None
    assert initial_stop(0.11, 0.1, epochs=4, max_epochs=5) is None
    assert initial_stop(math.nan, 0.1, epochs=4, max_epochs=5) is None
    assert "0.1 eV/A" in str(initial_stop(0.1, 0.1, epochs=1, max_epochs=5))
    assert "max_initial_epochs = 5" in str(initial_stop(None, 0.1, epochs=5, max_epochs=5))


TRAJECTORY = TrajectoryState(index=0)
DONE = replace(TRAJECTORY, status=Status.DONE)
RETIRED = replace(TRAJECTORY, status=Status.RETIRED)


@pytest.mark.parametrize(
    ("mae", "n_training", "trajectories", "words"),
    [
        (None, 0, [TRAJECTORY], None),
        (0.02, 99, [TRAJECTORY, DONE], None),
        (math.nan, 99, [TRAJECTORY], None),
        (0.0199, 1, [TRAJECTORY], "desired_acc = 0.02"),
        (None, 100, [TRAJECTORY], "max_set_size = 100"),
        (None, 1, [DONE, DONE], "all trajectories have done max_MD_steps"),
        (None, 1, [DONE, RETIRED], "all trajectories but the 1 that were retired have done"),
        (None, 1, [TRAJECTORY, RETIRED], None),
        (0.0199, 1, [RETIRED], "desired_acc = 0.02"),
        # A trajectory that still trains or waits is not done.
        (None, 1, [DONE, replace(TRAJECTORY, status=Status.TRAINING)], None),
        (None, 1, [DONE, replace(TRAJECTORY, status=Status.WAITING)], None),
    ],
)
def test_active_learning_stops_by_each_of_its_rules(
    mae: float | None, n_training: int, trajectories: list[TrajectoryState], words: str | None
) -> None:
    rules = StopRules(desired_acc=0.02, max_set_size=100)
    reason = active_learning_stop(rules, mae, n_training, 7, trajectories)
    assert (reason is None) if words is None else (words in str(reason))


def test_nothing_is_reached_if_all_were_retired() -> None:
    with pytest.raises(NobodyLeft):
        active_learning_stop(StopRules(0.02), 0.5, 1, 1, [RETIRED, RETIRED])


def test_without_a_set_size_the_set_may_grow() -> None:
    assert active_learning_stop(StopRules(0.02), None, 10**9, 10**9, [TRAJECTORY]) is None


@pytest.mark.parametrize("valid_ratio", [0.05, 0.1, 0.2, 0.3, 0.5, 0.9])
def test_shared_points_are_validated_on_by_a_fold_of_each_member(valid_ratio) -> None:
    folds = [{p for p in range(60) if validates(m, p, valid_ratio)} for m in (0, 1, 2)]
    wanted = max(2, round(1 / valid_ratio))
    assert all(len(fold) == 60 // wanted for fold in folds)
    # Somebody trains on every point, and the first two never hold back the same one.
    assert not folds[0] & folds[1]
    assert not folds[0] & folds[1] & folds[2]


def test_a_bootstrap_sample_is_poisson_distributed_and_each_member_s_own() -> None:
    counts = [[bootstrap_count(member, place) for place in range(2000)] for member in range(3)]
    assert counts[0] == [bootstrap_count(0, place) for place in range(2000)]
    assert counts[0] != counts[1]
    for of_member in counts:
        # A Poisson distribution of mean 1: mean 1, and e^-1 of the points missing.
        assert sum(of_member) / 2000 == pytest.approx(1.0, abs=0.1)
        assert of_member.count(0) / 2000 == pytest.approx(math.exp(-1), abs=0.05)
        assert of_member.count(2) / 2000 == pytest.approx(math.exp(-1) / 2, abs=0.05)
        # Few points are enough: no member is left with one of the first ten.
        of_fives = [of_member[start : start + 5] for start in range(0, 2000, 5)]
        assert min(sum(count > 0 for count in counts) for counts in of_fives) >= 3
