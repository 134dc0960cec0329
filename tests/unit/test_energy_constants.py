"""The constant part of energy errors is taken out through the E0s."""

from __future__ import annotations

import numpy as np
import pytest
from label_parts import some_label

from fhi_al.core.label import Label
from fhi_al.models.energy_constants import corrected_energies

H, C, O = 1, 6, 8  # noqa: E741
E0S = (-10.0, -1000.0, -2000.0)


def molecules(*compositions: tuple[int, int, int]) -> list[Label]:
    """Labels of molecules with so many atoms of H, C and O."""
    return [
        some_label(seed, sum(each), numbers=np.repeat([H, C, O], each))
        for seed, each in enumerate(compositions)
    ]


def corrections(labels: list[Label], errors: np.ndarray, *, by_element: bool = True) -> np.ndarray:
    found = corrected_energies(E0S, (H, C, O), labels, errors, by_element=by_element)
    return np.array(found) - E0S


def test_compositions_that_determine_all_constants_give_each_element_its_own() -> None:
    labels = molecules((4, 1, 0), (2, 0, 1), (4, 1, 1), (6, 2, 1), (2, 1, 1))
    constants = np.array([0.3, -2.0, 5.0])
    counts = np.array([[np.count_nonzero(x.numbers == z) for z in (H, C, O)] for x in labels])
    assert corrections(labels, counts @ constants) == pytest.approx(-constants, abs=1e-10)


def test_one_composition_loses_its_mean_error_per_atom() -> None:
    labels = molecules(*[(6, 2, 1)] * 4)
    errors = np.array([0.9, 1.1, 1.0, 1.4])
    found = corrections(labels, errors)
    assert np.array([6, 2, 1]) @ found == pytest.approx(-errors.mean())


def test_what_compositions_tell_apart_by_little_is_left_alone() -> None:
    # Their difference, one atom of 2001, is told apart by rounding only.
    labels = molecules((1000, 1000, 1), (1000, 1000, 0))
    found = corrections(labels, np.array([1.0, 0.0]))
    assert np.abs(found).max() < 1e-2


def test_e0s_of_the_user_keep_their_differences() -> None:
    labels = molecules((4, 1, 0), (2, 0, 1), (4, 1, 1))
    found = corrections(labels, np.array([5.0, 3.0, 6.0]), by_element=False)
    assert found == pytest.approx([-1.0, -1.0, -1.0])


def test_labels_of_weight_zero_and_diverged_models_change_nothing() -> None:
    labels = molecules((2, 0, 1), (2, 0, 1))
    assert corrections(labels, np.array([np.nan, 0.3])) @ [2, 0, 1] == pytest.approx(-0.3)
    assert not corrections(labels, np.array([np.nan, np.nan])).any()
    assert not corrections(labels, np.array([np.inf, np.nan])).any()
