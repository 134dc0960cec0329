"""Which structures are alike, by descriptors that are made up."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from fhi_al.core.diversity import (
    atoms_distance,
    distances,
    farthest_first,
    fingerprints,
    fingerprints_of_any,
    nearest_duplicate,
    scatter,
)

WATER = np.array([8, 1, 1])


def some_features(seed: int, n_structures: int = 6, n_features: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n_structures, 3, n_features))


def test_scatter_is_about_each_atoms_own_average() -> None:
    # Two sites of hydrogen, far apart in feature space, each of which moves by 1 and by 2.
    features = np.array([[[0.0], [10.0], [-10.0]], [[0.0], [12.0], [-14.0]]])
    found = scatter(features, WATER)
    assert found is not None
    # Sample variances 2 and 8, over both atoms 5.
    np.testing.assert_allclose(found[1:], np.sqrt(5.0))
    # Oxygen does not move: a millionth of the whole, sqrt(10 / 3).
    assert found[0] == pytest.approx(1e-6 * np.sqrt(10 / 3))


def test_scatter_of_one_structure_or_of_equal_ones_is_unknown() -> None:
    features = some_features(1)
    assert scatter(features[:1], WATER) is None
    assert scatter(np.array([features[0]] * 3), WATER) is None


def test_order_of_equal_atoms_does_not_matter_and_of_others_does() -> None:
    features = some_features(2)
    swapped, mixed = features[:, [0, 2, 1]], features[:, [1, 0, 2]]
    assert np.array_equal(fingerprints(features, WATER), fingerprints(swapped, WATER))
    assert atoms_distance(features[0], swapped[0], WATER) == 0.0
    assert not np.array_equal(fingerprints(features, WATER), fingerprints(mixed, WATER))
    assert atoms_distance(features[0], mixed[0], WATER) > 0.1


def test_fingerprints_are_never_farther_apart_than_the_atoms() -> None:
    features = some_features(3, 40)
    prints = fingerprints(features, WATER)
    for k in range(39):
        root_mean_square = np.sqrt(np.square(features[k] - features[k + 1]).sum() / 3)
        assert np.linalg.norm(prints[k] - prints[k + 1]) <= root_mean_square + 1e-12


def test_one_moved_atom_is_seen_at_its_full_distance() -> None:
    one = some_features(4, 1)[0]
    other = one.copy()
    other[2, 1] += 0.25
    assert atoms_distance(one, other, WATER) == pytest.approx(0.25)


def test_many_atoms_are_compared_in_memory_that_grows_with_the_atoms_only() -> None:
    one = np.random.default_rng(7).normal(size=(3000, 1))
    tracemalloc.start()
    assert atoms_distance(one, one[::-1], np.ones(3000, dtype=int)) == 0.0
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2e6  # bytes; all pairs take 72e6


def test_features_dealt_to_other_atoms_are_no_duplicate() -> None:
    one = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    other = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    prints = fingerprints(np.array([one, other]), WATER)
    assert np.array_equal(prints[0], prints[1])
    stored = (other[np.newaxis], prints[1:])
    assert nearest_duplicate((one, prints[0]), stored, WATER, 0.5) is None
    assert nearest_duplicate((one, prints[0]), stored, WATER, 1.0) == 1.0


def test_the_nearest_duplicate_is_told() -> None:
    one = some_features(5, 1)[0]
    others = np.array([one + 5.0, one + 0.03, one + 0.01])
    stored = (others, fingerprints(others, WATER))
    mine = (one, fingerprints(one[np.newaxis], WATER)[0])
    # All four features are shifted alike: twice the shift.
    assert nearest_duplicate(mine, stored, WATER, 0.1) == pytest.approx(0.02)
    assert nearest_duplicate(mine, stored, WATER, 0.01) is None
    nothing = (np.empty((0, 3, 4)), np.empty((0, 12)))
    assert nearest_duplicate(mine, nothing, WATER, 0.1) is None


def test_each_point_is_the_farthest_from_stored_ones_and_those_before() -> None:
    points = np.array([[1.0], [9.0], [10.0], [4.0]])
    # From 0: 10 first; then 4 (4 away from 0), and of 1 and 9, both 1 away, the first.
    assert farthest_first(points, np.array([[0.0]])) == [2, 3, 0, 1]


def test_without_stored_points_the_first_one_begins() -> None:
    points = np.array([[5.0], [6.0], [-3.0]])
    assert farthest_first(points, np.empty((0, 1))) == [0, 2, 1]
    assert farthest_first(np.empty((0, 1)), points) == []


def test_many_structures_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    others = some_features(6, 50).reshape(50, -1)
    whole = distances(others[0], others)
    monkeypatch.setattr("fhi_al.core.diversity._MOST_AT_ONCE", 40)
    assert np.array_equal(distances(others[0], others), whole)
    assert whole[0] == 0.0


def test_structures_of_any_composition_have_distances() -> None:
    water = some_features(1, n_structures=1)[0]
    hydrogen = np.array([1, 1])
    features = [water, water[[0, 2, 1]], water + 0.1, water[1:], 3 * water[1:]]
    numbers = [WATER, WATER, WATER, hydrogen, hydrogen]
    points = fingerprints_of_any(features, numbers)
    assert points.shape == (5, 2 * 5 * 4)
    far = [distances(points[0], points[k : k + 1])[0] for k in range(5)]
    # The order of equal atoms makes no difference.
    assert far[1] == pytest.approx(0.0, abs=1e-12)
    # What has no oxygen is farther than what was moved a little.
    assert 0.0 < far[2] < far[3] < far[4]


def test_one_composition_of_single_atoms_is_compared_atom_by_atom() -> None:
    # One atom of each element: all quantiles are its feature, whose scatter is 1 for both.
    features = [np.array([[1.0], [5.0]]), np.array([[-1.0], [5.0]]), np.array([[1.0], [3.0]])]
    numbers = [np.array([8, 1])] * 3
    points = fingerprints_of_any(features, numbers)
    scale = np.sqrt(8 / 9)  # root mean square of (1, -1, 1) and of (5, 5, 3) about the mean
    # Half of the atoms moved by 2.
    assert distances(points[0], points[1:2])[0] == pytest.approx(np.sqrt(4 / 2) / scale)
    assert distances(points[0], points[2:3])[0] == pytest.approx(np.sqrt(4 / 2) / scale)


def test_equal_structures_of_an_element_do_not_divide_by_zero() -> None:
    points = fingerprints_of_any([np.ones((2, 3))] * 2, [np.array([1, 1])] * 2)
    assert np.isfinite(points).all() and np.array_equal(points[0], points[1])


def test_a_short_choice_is_the_beginning_of_a_long_one() -> None:
    points = np.random.default_rng(3).normal(size=(20, 2))
    none = np.empty((0, 2))
    whole = farthest_first(points, none)
    assert sorted(whole) == list(range(20))
    assert farthest_first(points, none, 5) == whole[:5]
