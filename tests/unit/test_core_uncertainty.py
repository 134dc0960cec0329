"""How far members disagree: values by hand."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest

from fhi_al.core.structure import Array
from fhi_al.core.uncertainty import (
    MEASURES,
    UncertaintyType,
    atomic_spread,
    force_error,
    stress_spread,
)

KINDS: tuple[UncertaintyType, ...] = get_args(UncertaintyType)

# Two members, two atoms.  Atom 0: x is 1 and 3, deviations -1 and 1: mean of (1, 0, 0, 1, 0, 0) is
# 1/3.  Atom 1: x is 0 and 6, y is 2 and 2: deviations -3 and 3: mean of squares 18/6 = 3.
FORCES = np.array([[[1.0, 5.0, 0.0], [0.0, 2.0, 0.0]], [[3.0, 5.0, 0.0], [6.0, 2.0, 0.0]]])


def test_spread_of_each_atom() -> None:
    assert atomic_spread(FORCES) == pytest.approx([math.sqrt(1 / 3), math.sqrt(3)], rel=1e-14)


# Of FORCES.
UNCERTAINTIES: dict[UncertaintyType, float] = {
    "max_atomic_sd": math.sqrt(3),
    "mean_atomic_sd": (math.sqrt(1 / 3) + math.sqrt(3)) / 2,
    # All squares of deviations: 1 + 1 + 9 + 9 = 20 over 12 numbers.
    "ensemble_sd": math.sqrt(20 / 12),
}


@pytest.mark.parametrize("kind", KINDS)
def test_uncertainty_of_a_structure(kind: UncertaintyType) -> None:
    assert MEASURES[kind](FORCES) == pytest.approx(UNCERTAINTIES[kind], rel=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_members_that_agree_and_one_member_alone_have_none(kind: UncertaintyType) -> None:
    assert MEASURES[kind](FORCES[:1]) == 0.0
    assert MEASURES[kind](np.stack([FORCES[0]] * 3)) == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_one_nan_makes_the_whole_uncertainty_nan(kind: UncertaintyType) -> None:
    forces = FORCES.copy()
    forces[0, 1, 2] = np.nan
    assert math.isnan(MEASURES[kind](forces))


@pytest.mark.parametrize("shape", [(2, 3), (2, 4, 2), (2, 2, 4, 3), (6,)])
def test_forces_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(n_members, n_atoms, 3\)"):
        MEASURES["max_atomic_sd"](np.zeros(shape))


# Atom 0 is off by 1, -1, 1: mean of squares 1.  Atom 1 by sqrt(12), 0, 0: 4.
ERRORS: dict[UncertaintyType, float] = {
    "max_atomic_sd": 2.0,
    "mean_atomic_sd": (1.0 + 2.0) / 2,
    "ensemble_sd": math.sqrt((1.0 + 4.0) / 2),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_error_is_reduced_as_the_uncertainty_is(kind: UncertaintyType) -> None:
    expected = ERRORS[kind]
    true = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    predicted = true + np.array([[1.0, -1.0, 1.0], [math.sqrt(12), 0.0, 0.0]])
    assert force_error(predicted, true, MEASURES[kind]) == pytest.approx(expected, rel=1e-12)
    # A measure of one's own is applied to two members that are off to either side.
    own = lambda forces: MEASURES[kind](forces)  # noqa: E731
    assert force_error(predicted, true, own) == pytest.approx(expected, rel=1e-12)


def test_the_error_of_a_measure_of_ones_own() -> None:
    def largest_component(forces: Array) -> float:
        return float((forces.max(axis=0) - forces.min(axis=0)).max())

    true = np.zeros((2, 3))
    predicted = np.array([[0.1, 0.0, 0.0], [0.0, -0.7, 0.2]])
    assert force_error(predicted, true, largest_component) == pytest.approx(1.4, rel=1e-14)


def test_forces_of_all_members_are_no_prediction() -> None:
    # They would broadcast to a number that is no error of anything.
    with pytest.raises(ValueError, match=r"expected \(n_atoms, 3\)"):
        force_error(np.zeros((4, 2, 3)), np.zeros((2, 3)), MEASURES["max_atomic_sd"])


def test_the_spread_of_the_stress_is_the_deviation_over_members_and_components() -> None:
    one = np.zeros((3, 3))
    one[0, 0] = 0.9
    # Mean 0.3 in one of nine components; deviations -0.3, -0.3, 0.6 there: mean of squares 0.18/9.
    spread = stress_spread(np.array([np.zeros((3, 3)), np.zeros((3, 3)), one]))
    assert spread == pytest.approx(np.sqrt(0.54 / 27), rel=1e-12)
    assert stress_spread(np.ones((4, 3, 3))) == 0.0
    with pytest.raises(ValueError, match="expected \\(n_members, 3, 3\\)"):
        stress_spread(np.zeros((3, 3)))
