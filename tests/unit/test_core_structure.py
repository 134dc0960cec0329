"""Structures and the names of geometries."""

from __future__ import annotations

import numpy as np
import pytest

from fhi_al.core.structure import geometry_key, structure


def test_a_cell_makes_it_periodic_and_what_is_left_out_is_zero() -> None:
    molecule = structure([1, 1], [[0, 0, 0], [0, 0, 0.74]])
    crystal = structure([1, 1], [[0, 0, 0], [0, 0, 0.74]], 3 * np.eye(3))
    assert (molecule.pbc, crystal.pbc) == (False, True)
    assert not molecule.cell.any()
    assert not molecule.fixed.any() and molecule.fixed.shape == (2, 3)
    assert not molecule.initial_moments.any() and not molecule.initial_charges.any()
    assert len(molecule) == 2


def test_a_structure_does_not_share_its_arrays_with_its_maker() -> None:
    positions = np.zeros((1, 3))
    made = structure([1], positions)
    positions[0, 0] = 1.0
    assert made.positions[0, 0] == 0.0


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("cell", np.zeros(3), "(3, 3)"),
        ("fixed", np.zeros(2, dtype=bool), "(2, 3)"),
        ("initial_moments", np.zeros(3), "(2,)"),
        ("initial_charges", np.zeros((2, 1)), "(2,)"),
        ("masses", np.ones(3), "(2,)"),
    ],
)
def test_arrays_of_the_wrong_shape_are_refused(name: str, value: np.ndarray, expected: str) -> None:
    with pytest.raises(ValueError) as caught:
        structure([1, 1], [[0, 0, 0], [0, 0, 1]], **{name: value})
    assert f"Structure.{name} has shape {value.shape}, expected {expected}" in str(caught.value)


@pytest.mark.parametrize("mass", [0.0, -1.0, np.nan, np.inf])
def test_masses_that_are_none_are_refused(mass: float) -> None:
    with pytest.raises(ValueError, match=r"Structure\.masses: expected finite numbers above zero"):
        structure([1, 1], [[0, 0, 0], [0, 0, 1]], masses=np.array([1.0, mass]))


def test_equal_bits_have_one_key_however_they_lie_in_memory() -> None:
    positions = np.random.default_rng(1).standard_normal((4, 3))
    cell = np.eye(3)
    key = geometry_key(0, positions, cell)
    assert key == geometry_key(0, positions.copy(order="F"), np.asfortranarray(cell))
    assert key == geometry_key(0, np.repeat(positions, 2, axis=0)[::2], cell)
    assert len(key) == 32


def test_any_differing_bit_changes_the_key() -> None:
    positions = np.random.default_rng(2).standard_normal((4, 3))
    cell = np.eye(3)
    nudged, strained = positions.copy(), cell.copy()
    nudged[3, 2] = np.nextafter(nudged[3, 2], np.inf)
    strained[0, 0] = np.nextafter(1.0, 2.0)
    keys = {
        geometry_key(0, positions, cell),
        geometry_key(1, positions, cell),
        geometry_key(0, nudged, cell),
        geometry_key(0, positions, strained),
        geometry_key(0, positions[[1, 0, 2, 3]], cell),
    }
    assert len(keys) == 5


def test_minus_zero_is_another_geometry() -> None:
    """Bitwise, as documented: such a label may be computed twice, but is never confused."""
    assert geometry_key(0, np.zeros((1, 3)), np.zeros((3, 3))) != geometry_key(
        0, -np.zeros((1, 3)), np.zeros((3, 3))
    )
