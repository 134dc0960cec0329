"""Overlaps, atoms flown apart and absurd labels; distances against ASE's."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list

from fhi_al.core.plausible import (
    EnergyReference,
    GeometryLimits,
    LabelLimits,
    geometry_problem,
    label_problem,
    motion_problem,
)
from fhi_al.core.structure import Array, structure
from fhi_al.md.atoms import radii_of

LIMITS = GeometryLimits()


@pytest.mark.parametrize(
    ("fixed", "words"),
    [
        (np.zeros((1, 3), dtype=bool), "has one atom"),
        (np.ones((2, 3), dtype=bool), "nothing can move"),
    ],
)
def test_a_system_that_shows_no_forces_to_learn_is_named(fixed: Array, words: str) -> None:
    assert words in str(motion_problem(fixed))


def test_one_coordinate_that_moves_is_enough() -> None:
    fixed = np.ones((2, 3), dtype=bool)
    fixed[1, 2] = False
    assert motion_problem(fixed) is None
    assert motion_problem(np.zeros((2, 3), dtype=bool)) is None


@pytest.mark.parametrize("skew", [0.0, 0.4, 0.9])
def test_an_overlap_across_the_boundary_is_found_where_ase_finds_one(skew: float) -> None:
    """Random crystals: an overlap is reported exactly where ASE finds a short pair."""
    generator = np.random.default_rng(3)
    cell = 4.0 * np.array([[1.0, 0.0, 0.0], [skew, 1.0, 0.0], [skew, skew, 1.0]])
    verdicts = []
    for _ in range(60):
        shape = structure([14] * 4, generator.uniform(0.0, 1.0, (4, 3)) @ cell, cell)
        radii = radii_of(shape)
        problem = geometry_problem(shape.positions, cell, True, radii, LIMITS)
        limit = 0.4 * 2 * radii[0]
        atoms = Atoms("Si4", positions=shape.positions, cell=cell, pbc=True)
        pairs = neighbor_list("i", atoms, cutoff=limit)
        assert (problem is not None) == (len(pairs) > 0)
        verdicts.append(problem is not None)
    assert any(verdicts) and not all(verdicts)


def test_overlapping_atoms_are_named_with_their_distance() -> None:
    water = structure([8, 1, 1], [[0, 0, 0], [0, 0, 0.96], [0, 0.2, 0.96]])
    problem = geometry_problem(water.positions, water.cell, False, radii_of(water), LIMITS)
    # Two H (radius 0.31 A) 0.2 A apart, at least 0.4 x 0.62 = 0.248 A expected.
    assert problem == (
        "atoms 2 and 3 overlap: they are 0.200 A apart, at least 0.248 A was expected"
    )


def test_the_boundary_of_an_overlap() -> None:
    h2 = structure([1, 1], [[0, 0, 0], [0, 0, 0]])
    for distance, overlaps in ((0.2479, True), (0.2481, False)):
        positions = np.array([[0, 0, 0], [0, 0, distance]])
        problem = geometry_problem(positions, h2.cell, False, radii_of(h2), LIMITS)
        assert (problem is not None) is overlaps


def test_an_atom_that_has_flown_apart_is_named() -> None:
    far = structure([8, 1, 1], [[0, 0, 0], [0, 0.76, 0.59], [0, 0, 9.0]])
    problem = geometry_problem(far.positions, far.cell, False, radii_of(far), LIMITS)
    assert problem is not None
    assert problem.startswith("atom 3 has flown apart")
    near = far.positions.copy()
    near[2, 2] = 8.5  # 7.95 A from the other H
    assert geometry_problem(near, far.cell, False, radii_of(far), LIMITS) is None
    # In a crystal nothing flies apart.
    assert geometry_problem(far.positions, 40 * np.eye(3), True, radii_of(far), LIMITS) is None


def test_a_whole_fragment_that_leaves_is_not_an_atom_that_has_flown_apart() -> None:
    """Known limit of the check: two far fragments of two atoms each pass."""
    pair = structure([1, 1, 1, 1], [[0, 0, 0], [0, 0, 0.74], [0, 0, 50.0], [0, 0, 50.74]])
    assert geometry_problem(pair.positions, pair.cell, False, radii_of(pair), LIMITS) is None


def test_one_atom_alone_is_fine() -> None:
    atom = structure([8], [[0, 0, 0]])
    assert geometry_problem(atom.positions, atom.cell, False, radii_of(atom), LIMITS) is None
    collapsed = 0.5 * np.eye(3)
    assert geometry_problem(atom.positions, collapsed, True, radii_of(atom), LIMITS) is not None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_positions_and_cells_that_are_not_finite_are_found(bad: float) -> None:
    shape = structure([1, 1], [[0, 0, 0], [0, 0, 0.74]], 5 * np.eye(3))
    positions, cell = shape.positions.copy(), shape.cell.copy()
    positions[1, 0] = bad
    cell[2, 2] = bad
    for where in ((positions, shape.cell), (shape.positions, cell)):
        problem = geometry_problem(*where, True, radii_of(shape), LIMITS)
        assert problem == "positions are not finite"


LABEL_LIMITS = LabelLimits(max_force=100.0, max_energy_per_atom=50.0)
GOOD = np.array([[0.0, 3.0, 4.0], [0.0, -3.0, -4.0]])  # norms of 5 eV/A


@pytest.mark.parametrize(
    ("energy", "forces", "converged", "words"),
    [
        (-1.0, GOOD, True, None),
        (-1.0, GOOD, False, "did not converge"),
        (np.nan, np.full((2, 3), np.nan), False, "did not converge"),
        (np.nan, GOOD, True, "not finite"),
        (-np.inf, GOOD, True, "not finite"),
        (-1.0, GOOD * [1.0, np.nan, 1.0], True, "not finite"),
        (-1.0, GOOD[:1], True, "shape (1, 3), expected (2, 3)"),
        (-1.0, GOOD.ravel(), True, "shape (6,)"),
        (-1.0, 20.1 * GOOD, True, "100.5 eV/A, more than max_force = 100 eV/A"),
        (-1.0, 20.0 * GOOD, True, None),
    ],
)
def test_a_label_that_must_not_be_trained_on_is_explained(
    energy: float, forces: Array, converged: bool, words: str | None
) -> None:
    problem = label_problem(energy, forces, converged, n_atoms=2, limits=LABEL_LIMITS)
    assert (problem is None) if words is None else (words in str(problem))


@pytest.mark.parametrize("stress", [np.full((3, 3), np.nan), np.zeros(6)])
def test_a_bad_stress_makes_a_bad_label(stress: Array) -> None:
    assert "stress" in str(label_problem(-1.0, GOOD, True, 2, LABEL_LIMITS, stress))
    assert label_problem(-1.0, GOOD, True, 2, LABEL_LIMITS, np.eye(3)) is None


def test_a_large_stress_makes_a_bad_label_where_one_is_asked_for() -> None:
    limits = LabelLimits(100.0, 50.0, max_stress=2.0)
    stress = np.diag([1.0, 0.5, -2.5])  # eV/A^3
    found = label_problem(-1.0, GOOD, True, 2, limits, stress)
    assert found == (
        "the largest component of the stress is 2.5 eV/A^3, more than max_stress = 2 eV/A^3"
    )
    assert label_problem(-1.0, GOOD, True, 2, limits, 0.8 * stress) is None
    assert label_problem(-1.0, GOOD, True, 2, LABEL_LIMITS, stress) is None


def test_limits_without_a_stress_have_the_name_they_had_before_there_was_any() -> None:
    assert LABEL_LIMITS.name == "LabelLimits(max_force=100.0, max_energy_per_atom=50.0)"
    assert LabelLimits(100.0, 50.0, max_stress=2.0).name != LABEL_LIMITS.name


@pytest.mark.parametrize(
    ("energy", "problem"),
    [
        (-100.0, None),
        (-199.0, None),  # 49.5 eV per atom lower
        (-201.0, "the energy is 50.5 eV per atom from what was expected, more than "),
        (1.0, "the energy is 50.5 eV per atom from what was expected, more than "),
    ],
)
def test_an_energy_far_from_its_reference_is_absurd(energy: float, problem: str | None) -> None:
    reference = EnergyReference(-100.0, "what was expected")
    found = label_problem(energy, GOOD, True, 2, LABEL_LIMITS, None, reference)
    assert found is None if problem is None else str(found).startswith(problem)
    assert label_problem(energy, GOOD, True, 2, LABEL_LIMITS) is None
