"""The constant part of energy errors is taken out through the E0s."""

from __future__ import annotations

import numpy as np
import pytest
from label_parts import some_label

from fhi_al.core.label import Label
from fhi_al.models.energy_constants import (
    corrected_energies,
    largest_error_per_atom,
    n_told_apart,
)

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


@pytest.mark.parametrize("n_pure", [20, 400, 20000])
@pytest.mark.parametrize("n_mixed", [1, 5, 20])
def test_a_rare_element_gets_its_constant_however_few_labels_have_it(
    n_pure: int, n_mixed: int
) -> None:
    pure, mixed = molecules((0, 100, 0), (0, 99, 1))
    labels = [pure] * n_pure + [mixed] * n_mixed
    found = corrections(labels, np.repeat([0.0, 5e5], [n_pure, n_mixed]))
    # The E0 of another method's oxygen; the other has been right and stays.  Rounding of 500 keV.
    assert found == pytest.approx([0.0, 0.0, -5e5], abs=1e-6)


def test_more_compositions_do_not_hide_a_rare_element() -> None:
    # Of H and C alone the largest singular value is 16; that of one oxygen in 200 atoms is 0.005.
    others = molecules(*[(k, 500 - k, 0) for k in range(500)], (0, 199, 1))
    errors = np.zeros(len(others))
    errors[-1] = -7.0
    assert corrections(others, errors) == pytest.approx([0.0, 0.0, 7.0], abs=1e-6)


def test_what_constants_cannot_take_is_left_where_few_labels_are() -> None:
    # Twice the molecule is the same composition: 99 of it know that 1 is wrong.
    labels = molecules(*[(2, 0, 1)] * 99, (4, 0, 2))
    errors = np.array([0.0] * 99 + [6.0])
    assert corrections(labels, errors) @ [2, 0, 1] == pytest.approx(-3 * 0.01)


def test_constants_that_compositions_tell_apart_are_counted() -> None:
    elements = (H, C, O)
    assert n_told_apart(elements, molecules((2, 0, 1), (4, 0, 2))) == 1
    assert n_told_apart(elements, molecules((2, 0, 1), (4, 0, 2), (2, 0, 0))) == 2
    assert n_told_apart(elements, molecules((4, 1, 0), (2, 0, 1), (2, 0, 0))) == 3
    # CH2, C2H4 and ethene with hydrogen: no oxygen, and one of two combinations of the rest.
    assert n_told_apart(elements, molecules((2, 1, 0), (4, 2, 0), (6, 2, 0))) == 2


def test_the_error_that_is_left_is_that_of_the_worst_composition() -> None:
    labels = molecules(*[(2, 0, 1)] * 98, *[(4, 1, 0)] * 2)
    errors = np.array([0.3, -0.3] * 49 + [-2.0, -3.0])
    assert largest_error_per_atom((H, C, O), labels, errors) == pytest.approx(2.5 / 5)
    errors[-2:] = np.nan
    assert largest_error_per_atom((H, C, O), labels, errors) == pytest.approx(0.0, abs=1e-12)
    assert largest_error_per_atom((H, C, O), labels[-2:], errors[-2:]) == 0.0


def test_e0s_of_the_user_keep_their_differences() -> None:
    labels = molecules((4, 1, 0), (2, 0, 1), (4, 1, 1))
    found = corrections(labels, np.array([5.0, 3.0, 6.0]), by_element=False)
    assert found == pytest.approx([-1.0, -1.0, -1.0])


def test_labels_of_weight_zero_and_diverged_models_change_nothing() -> None:
    labels = molecules((2, 0, 1), (2, 0, 1))
    assert corrections(labels, np.array([np.nan, 0.3])) @ [2, 0, 1] == pytest.approx(-0.3)
    assert not corrections(labels, np.array([np.nan, np.nan])).any()
    assert not corrections(labels, np.array([np.inf, np.nan])).any()
