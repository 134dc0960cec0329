"""Which points are held out, and the errors on them."""

from __future__ import annotations

import numpy as np
import pytest
from label_parts import some_label

from fhi_al.core.held_out import prediction_errors
from fhi_al.core.split import goes_to_test, n_to_sample


@pytest.mark.parametrize("ratio", [0.0, 0.05, 0.1, 0.29, 0.3, 0.5, 0.9])
def test_the_share_is_held_out_evenly(ratio: float) -> None:
    n_test = 0
    for n in range(1000):
        n_test += goes_to_test(n, ratio)
        assert abs(n_test - ratio * (n + 1)) < 1 + 1e-6
    assert n_test == round(1000 * ratio)


def test_the_first_points_are_for_the_members() -> None:
    assert [n for n in range(40) if goes_to_test(n, 0.1)] == [9, 19, 29, 39]


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.35, 0.5])
def test_members_get_all_of_their_points(ratio: float) -> None:
    n_before = 0
    for _ in range(5):
        n_points = n_to_sample(n_before, 8, ratio)
        left = [n for n in range(n_before, n_before + n_points) if not goes_to_test(n, ratio)]
        assert len(left) == 8
        n_before += n_points
    if ratio == 0:
        assert n_before == 40


def test_errors_by_hand() -> None:
    labels = [some_label(seed, n_atoms=2) for seed in (1, 2)]
    off = np.zeros((2, 3))
    off[0, 0] = -0.6
    errors = prediction_errors(
        labels,
        [labels[0].energy + 0.2, labels[1].energy - 0.4],
        [labels[0].forces + off, labels[1].forces],
    )
    assert errors.n_points == 2
    assert errors.mae_forces == pytest.approx(0.6 / 12)
    assert errors.rmse_forces == pytest.approx(np.sqrt(0.36 / 12))
    assert errors.worst_forces == pytest.approx(0.6)
    assert errors.mae_energy_per_atom == pytest.approx(0.15)
    assert errors.rmse_energy_per_atom == pytest.approx(np.sqrt((0.01 + 0.04) / 2))


def test_worst_is_the_mean_of_one_in_a_hundred() -> None:
    label = some_label(3, n_atoms=100)
    off = np.zeros(300)
    off[:4] = (1.0, -2.0, 3.0, 0.5)
    errors = prediction_errors([label], [label.energy], [label.forces + off.reshape(100, 3)])
    assert errors.worst_forces == pytest.approx(2.0)


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(ValueError, match="no labels"):
        prediction_errors([], [], [])
