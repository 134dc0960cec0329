"""How many structures test the final models, and which."""

from __future__ import annotations

import numpy as np
import pytest

from fhi_al.core.final_test import n_test_labels, stratified


@pytest.mark.parametrize(
    ("wanted", "n_computed", "expected"),
    [("auto", 9, 0), ("auto", 47, 4), ("auto", 100, 10), ("auto", 5000, 10), (3, 5, 3), (0, 90, 0)],
)
def test_the_test_costs_a_tenth_of_the_labels(wanted, n_computed: int, expected: int) -> None:
    assert n_test_labels(wanted, n_computed) == expected


def test_one_is_drawn_from_each_part_of_the_sorted_values() -> None:
    values = [9.0, 1.0, 8.0, 2.0, 7.0, 3.0]
    for seed in range(20):
        places = stratified(values, 3, np.random.default_rng(seed))
        assert places == sorted(places)
        drawn = sorted(values[place] for place in places)
        # The parts are (1, 2), (3, 7) and (8, 9).
        assert [any(x in part for x in drawn) for part in ((1, 2), (3, 7), (8, 9))] == [True] * 3
        assert len(drawn) == 3


def test_there_may_be_fewer_values_than_wanted() -> None:
    generator = np.random.default_rng(0)
    assert stratified([5.0, 4.0], 4, generator) == [0, 1]
    assert stratified([], 4, generator) == []


def test_the_mean_is_unbiased_and_scatters_less_than_that_of_a_random_sample() -> None:
    generator = np.random.default_rng(1)
    uncertainty = generator.exponential(size=80)
    # Of the size of the uncertainty, and scattered by half of it.
    error = uncertainty * (1 + 0.5 * generator.standard_normal(80))
    spread, random = (
        np.array([error[draw()].mean() for _ in range(2000)])
        for draw in (
            lambda: stratified(list(uncertainty), 8, generator),
            lambda: generator.choice(80, 8, replace=False),
        )
    )
    # The mean of 2000 means is known to about 0.1 / sqrt(2000).
    assert spread.mean() == pytest.approx(error.mean(), abs=0.02)
    assert spread.std() < 0.7 * random.std()
