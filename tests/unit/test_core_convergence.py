"""When a stage of a convergence ends, which weights are the best, which labels judge them."""

from __future__ import annotations

import math

import pytest

from fhi_al.core.convergence import (
    ConvergenceStage,
    Course,
    StageErrors,
    UnseenErrors,
    best_stage,
    evenly_spread,
    is_better,
)
from fhi_al.core.stopping import convergence_stop

FIRST, SECOND = ConvergenceStage.FIRST, ConvergenceStage.SECOND


@pytest.mark.parametrize(
    ("forces", "energy", "better"),
    [
        (0.02, 0.009, True),  # the energies alone are better
        (0.022, 0.005, True),  # forces 10 % worse, energies halved
        (0.022, 0.0095, False),  # forces 10 % worse, energies only 5 % better
        (0.02, 0.01, False),  # the same
        (0.019, 0.0103, True),  # forces 5 % better, energies 3 % worse
        (math.nan, 0.001, False),
    ],
)
def test_factors_of_forces_and_energies_decide(forces: float, energy: float, better: bool) -> None:
    before = UnseenErrors(0.02, 0.01, 5)
    assert is_better(UnseenErrors(forces, energy, 5), before, with_energies=True) is better


def test_without_energies_the_forces_alone_decide() -> None:
    found = UnseenErrors(0.021, 0.001, 5)
    assert not is_better(found, UnseenErrors(0.02, 0.01, 5), with_energies=False)


@pytest.mark.parametrize(
    ("found", "with_stress", "better"),
    [
        (UnseenErrors(0.021, 0.01, 5, mae_stress=0.0019), True, True),  # 0.9975 in all
        (UnseenErrors(0.021, 0.01, 5, mae_stress=0.0019), False, False),
        (UnseenErrors(0.019, 0.01, 5, mae_stress=0.0022), True, False),  # 1.045
        (UnseenErrors(0.019, 0.01, 5, mae_stress=0.0022), False, True),
        (UnseenErrors(0.019, 0.01, 5), True, True),  # not known: forces and energies
        (UnseenErrors(0.019, 0.01, 5, mae_stress=math.nan), True, False),
    ],
)
def test_the_stress_counts_as_the_energies_do_where_it_is_trained_on(
    found: UnseenErrors, with_stress: bool, better: bool
) -> None:
    before = UnseenErrors(0.02, 0.01, 5, mae_stress=0.002)
    assert is_better(found, before, with_energies=True, with_stress=with_stress) is better
    stages = (StageErrors(FIRST, (before,)), StageErrors(SECOND, (found,)))
    kept = best_stage(stages, 0, with_energies=True, with_stress=with_stress)
    assert kept is (SECOND if better else FIRST)


def test_anything_is_better_than_weights_that_are_not_there_or_have_no_error() -> None:
    found = UnseenErrors(9.0, 9.0, 5)
    assert is_better(found, UnseenErrors(), with_energies=True)
    assert is_better(found, UnseenErrors(math.nan, math.nan, 5), with_energies=True)
    assert not is_better(UnseenErrors(), UnseenErrors(), with_energies=True)


def test_each_member_keeps_its_own_best_stage() -> None:
    first = StageErrors(FIRST, (UnseenErrors(0.02, 0.01, 5), UnseenErrors(0.02, 0.01, 5)))
    second = StageErrors(SECOND, (UnseenErrors(0.025, 0.005, 5), UnseenErrors(0.05, 0.009, 5)))
    kept = [best_stage((first, second), place, with_energies=True) for place in (0, 1)]
    assert kept == [SECOND, FIRST]


def test_a_stage_without_weights_falls_back() -> None:
    first = StageErrors(FIRST, (UnseenErrors(0.02, 0.01, 5),))
    stages = (first, StageErrors(SECOND, (UnseenErrors(),)))
    assert best_stage(stages, 0, with_energies=True) is FIRST


def course_of(*errors: tuple[float, float, float]) -> Course:
    """Force error, energy error and loss after each epoch, from 0.02, 0.01 at epoch 0."""
    course = Course.begun(0, 0.02, 0.01)
    for epoch, (forces, energy, loss) in enumerate(errors, start=1):
        course = course.after(epoch, forces, energy, loss, 0.0)
    return course


@pytest.mark.parametrize(
    ("falling", "waited"),
    [
        ([(0.02 - 0.001 * k, 0.02, 1.0) for k in range(1, 6)], 0),
        ([(0.03, 0.01 * 0.98**k, 1.0) for k in range(1, 6)], 0),
        ([(0.03, 0.02, 0.98**k) for k in range(1, 6)], 0),
        # By less than a hundredth: the loss of the first epoch is the last improvement.
        ([(0.03, 0.01 * 0.999, 1.0 - 0.001 * k) for k in range(5)], 4),
        ([(0.03, math.nan, 1.0)] * 5, 4),
    ],
    ids=["forces", "energies", "loss", "all stand", "energies do not count"],
)
def test_a_stage_goes_on_while_any_of_the_three_falls(
    falling: list[tuple[float, float, float]], waited: int
) -> None:
    course = course_of(*falling)
    assert (course.epoch, course.epochs_without_improvement) == (5, waited)
    stops = convergence_stop(course, 4, 100)
    assert (stops is not None) is (waited >= 4)


def test_a_second_stage_counts_from_its_own_beginning() -> None:
    course = Course.begun(40, 0.02, 0.01)
    assert course.epochs_without_improvement == 0
    course = course.after(45, 0.03, 0.02, 700.0, 0.0)  # the first loss of other weights
    assert course.epochs_without_improvement == 0
    course = course.after(50, 0.03, 0.02, 700.0, 0.0)
    assert course.epochs_without_improvement == 5
    assert convergence_stop(course, 50, 50, "start_swa") == "50 epochs are trained (start_swa = 50)"


@pytest.mark.parametrize(
    ("n", "at_most", "places"),
    [(3, 5, [0, 1, 2]), (10, 5, [1, 3, 5, 7, 9]), (7, 3, [1, 3, 6]), (4, 0, []), (0, 3, [])],
)
def test_some_of_many_are_spread_and_end_with_the_last(
    n: int, at_most: int, places: list[int]
) -> None:
    assert evenly_spread(n, at_most) == places
