"""How far members disagree: values by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fhi_al.core.uncertainty import (
    UncertaintyType,
    atomic_spread,
    force_error,
    force_uncertainty,
)

KINDS: tuple[UncertaintyType, ...] = ("max_atomic_sd", "mean_atomic_sd", "ensemble_sd")

# Two members, two atoms.  Atom 0: x is 1 and 3, deviations -1 and 1: mean of (1, 0, 0, 1, 0, 0) is
# 1/3.  Atom 1: x is 0 and 6, y is 2 and 2: deviations -3 and 3: mean of squares 18/6 = 3.
FORCES = np.array([[[1.0, 5.0, 0.0], [0.0, 2.0, 0.0]], [[3.0, 5.0, 0.0], [6.0, 2.0, 0.0]]])


def test_spread_of_each_atom() -> None:
    assert atomic_spread(FORCES) == pytest.approx([math.sqrt(1 / 3), math.sqrt(3)], rel=1e-14)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("max_atomic_sd", math.sqrt(3)),
        ("mean_atomic_sd", (math.sqrt(1 / 3) + math.sqrt(3)) / 2),
        # All squares of deviations: 1 + 1 + 9 + 9 = 20 over 12 numbers.
        ("ensemble_sd", math.sqrt(20 / 12)),
    ],
)
def test_uncertainty_of_a_structure(kind: UncertaintyType, expected: float) -> None:
    assert force_uncertainty(FORCES, kind) == pytest.approx(expected, rel=1e-14)


def test_the_default_is_the_largest_spread_of_an_atom() -> None:
    assert force_uncertainty(FORCES) == force_uncertainty(FORCES, "max_atomic_sd")


@pytest.mark.parametrize("kind", KINDS)
def test_members_that_agree_and_one_member_alone_have_none(kind: UncertaintyType) -> None:
    assert force_uncertainty(FORCES[:1], kind) == 0.0
    assert force_uncertainty(np.stack([FORCES[0]] * 3), kind) == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_one_nan_makes_the_whole_uncertainty_nan(kind: UncertaintyType) -> None:
    forces = FORCES.copy()
    forces[0, 1, 2] = np.nan
    assert math.isnan(force_uncertainty(forces, kind))


@pytest.mark.parametrize("shape", [(2, 3), (2, 4, 2), (2, 2, 4, 3), (6,)])
def test_forces_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(n_members, n_atoms, 3\)"):
        force_uncertainty(np.zeros(shape))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("max_atomic_sd", 2.0),
        ("mean_atomic_sd", (1.0 + 2.0) / 2),
        ("ensemble_sd", math.sqrt((1.0 + 4.0) / 2)),
    ],
)
def test_the_error_is_reduced_as_the_uncertainty_is(kind: UncertaintyType, expected: float) -> None:
    # Atom 0: squares 1, 1, 1, mean 1.  Atom 1: 12, 0, 0, mean 4.
    true = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    predicted = true + np.array([[1.0, -1.0, 1.0], [math.sqrt(12), 0.0, 0.0]])
    assert force_error(predicted, true, kind) == pytest.approx(expected, rel=1e-12)
