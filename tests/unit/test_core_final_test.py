"""How many structures test the final models, which, and what they say of the mean error."""

from __future__ import annotations

import numpy as np
import pytest

from fhi_al.core.final_test import drawn, mean_of_drawn, n_test_labels, shared_out


@pytest.mark.parametrize(
    ("wanted", "n_computed", "expected"),
    [("auto", 9, 0), ("auto", 47, 4), ("auto", 100, 10), ("auto", 5000, 10), (3, 5, 3), (0, 90, 0)],
)
def test_the_test_costs_a_tenth_of_the_labels(wanted, n_computed: int, expected: int) -> None:
    assert n_test_labels(wanted, n_computed) == expected


def test_labels_are_shared_out_in_proportion_and_nobody_gets_any_where_there_is_nobody() -> None:
    assert shared_out(6, [10, 20, 30]) == [1, 2, 3]
    assert shared_out(2, [1, 100, 50]) == [0, 1, 1]
    assert shared_out(3, []) == []


def test_structures_are_drawn_in_proportion_to_their_uncertainty() -> None:
    sizes = [1.0, 3.0, 0.0, 2.0, 2.0]
    generator = np.random.default_rng(0)
    counts = np.zeros(5)
    for _ in range(4000):
        places = drawn(sizes, 2, generator)
        assert places == sorted(set(places)) and len(places) == 2
        counts[places] += 1
    # Twice the size over the sum of the sizes; each share is known to about 0.008.
    assert counts / 4000 == pytest.approx(np.array(sizes) / 4.0, abs=0.025)


def test_none_is_drawn_twice_and_no_sizes_are_no_hindrance() -> None:
    generator = np.random.default_rng(0)
    assert drawn([1.0, 1000.0], 3, generator) in ([1], [0, 1])
    assert len(drawn([0.0, 0.0, 0.0], 2, generator)) == 2
    assert drawn([], 4, generator) == []


def test_the_mean_is_unbiased_and_scatters_less_than_that_of_a_random_sample() -> None:
    generator = np.random.default_rng(1)
    sizes = generator.exponential(size=200) + 0.05
    # Of the size of the uncertainty, scattered by half of it.
    errors = sizes * np.exp(0.5 * generator.standard_normal(200))
    means, told = [], []
    for _ in range(2000):
        places = drawn(list(sizes), 8, generator)
        mean, standard_error = mean_of_drawn(errors[places], sizes[places], sizes.mean())
        means.append(mean)
        told.append(standard_error)
    random = [errors[generator.choice(200, 8, replace=False)].mean() for _ in range(2000)]
    # The mean of 2000 means is known to 0.01.
    assert np.mean(means) == pytest.approx(errors.mean(), abs=0.04)
    assert np.std(means) < 0.6 * np.std(random)
    # What is told of the scatter of a mean is right on average.
    assert np.sqrt(np.mean(np.square(told))) == pytest.approx(np.std(means), rel=0.15)


def test_one_structure_alone_has_no_standard_error() -> None:
    assert mean_of_drawn([0.3], [0.2], 0.1) == (pytest.approx(0.15), np.inf)
    assert mean_of_drawn([0.3, 0.5], [0.0, 0.0], 0.0)[0] == pytest.approx(0.4)
