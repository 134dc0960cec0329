"""Pairs of near atoms are those that ASE finds, however many atoms there are."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.geometry import get_distances

from fhi_al.core.neighbours import Pairs, close_pairs, image_pairs, molecule_pairs
from fhi_al.core.plausible import GeometryLimits, geometry_problem
from fhi_al.core.structure import Array

LIMITS = GeometryLimits()


def whole(blocks: Iterable[Pairs]) -> Pairs:
    first, second, distances = zip(*blocks, strict=True)
    return np.concatenate(first), np.concatenate(second), np.concatenate(distances)


def as_table(pairs: Pairs, n_atoms: int) -> Array:
    """Distances of all pairs, infinite where there is none."""
    first, second, distances = pairs
    found = np.full((n_atoms, n_atoms), np.inf)
    found[first, second] = found[second, first] = distances
    return found


def each_once(pairs: Pairs) -> bool:
    names = {frozenset(pair) for pair in zip(pairs[0].tolist(), pairs[1].tolist(), strict=True)}
    return len(names) == len(pairs[0])


def heights(cell: Array) -> Array:
    return 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)


def random_cells(n_cells: int) -> list[Array]:
    """Cells from nearly cubic to strongly skewed, left-handed ones among them."""
    generator = np.random.default_rng(7)
    cells: list[Array] = []
    while len(cells) < n_cells:
        cell = generator.uniform(-6.0, 6.0, (3, 3))
        if heights(cell).min() > 1.0:
            cells.append(cell)
    return cells


def test_periodic_distances_are_ases() -> None:
    generator = np.random.default_rng(11)
    off_diagonal = ~np.eye(6, dtype=bool)
    n_compared = 0
    for cell in random_cells(40):
        # Some atoms far outside the cell: MD does not wrap.
        positions = generator.uniform(-3.0, 4.0, (6, 3)) @ cell
        found = as_table(whole(image_pairs(positions, cell)), 6)
        _, expected = get_distances(positions, cell=cell, pbc=True)
        near = off_diagonal & (expected < heights(cell).min())
        assert np.abs(found - expected)[near].max(initial=0.0) < 1e-9  # A, rounding
        # Beyond the shortest height a distance may be too long, never too short.
        assert (found - expected)[off_diagonal].min() > -1e-9
        n_compared += int(near.sum())
    assert n_compared > 300


@pytest.mark.parametrize("n_atoms", [1, 6, 120])
@pytest.mark.parametrize("share", [0.49, 0.2, 0.05])
def test_close_pairs_are_those_that_ase_finds(n_atoms: int, share: float) -> None:
    generator = np.random.default_rng(12)
    n_close = 0
    for cell in random_cells(12):
        within = share * heights(cell).min()
        # Some atoms far outside the cell: MD does not wrap.
        positions = generator.uniform(-3.0, 4.0, (n_atoms, 3)) @ cell
        half = n_atoms // 2
        shifts = within * generator.uniform(-1.0, 1.0, (half, 3))
        positions[half : 2 * half] = positions[:half] + shifts
        pairs = whole(close_pairs(positions, cell, within))
        assert each_once(pairs)
        found = as_table(pairs, n_atoms)
        _, expected = get_distances(positions, cell=cell, pbc=True)
        close = (expected < within) & ~np.eye(n_atoms, dtype=bool)
        assert np.abs(found - expected)[close].max(initial=0.0) < 1e-9  # A, rounding
        # The others are not said to be nearer than they are.
        assert (found - expected).min() > -1e-9
        n_close += int(close.sum()) // 2
    assert n_close > 10 or n_atoms == 1


@pytest.mark.parametrize("n_atoms", [2, 40, 400])
@pytest.mark.parametrize("extent", [2.0, 12.0, 1e9])
def test_pairs_of_a_molecule_know_no_images(n_atoms: int, extent: float) -> None:
    generator = np.random.default_rng(13)
    positions = generator.uniform(-extent / 2, extent, (n_atoms, 3))
    positions[1::2] = positions[::2] + generator.uniform(-1.0, 1.0, (n_atoms // 2, 3))
    pairs = whole(molecule_pairs(positions, 1.5))
    assert each_once(pairs)
    found = as_table(pairs, n_atoms)
    _, expected = get_distances(positions)
    close = (expected < 1.5) & ~np.eye(n_atoms, dtype=bool)
    assert close.any()
    assert np.abs(found - expected)[np.isfinite(found)].max() < 1e-12 * extent + 1e-12
    assert np.isfinite(found[close]).all()


def test_few_atoms_of_a_molecule_come_all_at_once() -> None:
    atoms = molecule("CH3CH2OH")
    ((first, second, found),) = molecule_pairs(atoms.positions)
    assert len(found) == len(atoms) * (len(atoms) - 1) // 2
    assert (first < second).all()
    assert np.abs(found - atoms.get_all_distances()[first, second]).max() < 1e-12  # A


def test_the_diagonal_is_the_nearest_image_of_the_atom_itself() -> None:
    cell = np.array(bulk("Cu", a=3.6).cell)  # fcc: nearest neighbours at a / sqrt(2)
    ((first, second, found),) = image_pairs(np.zeros((1, 3)), cell)
    assert first.tolist() == second.tolist() == [0]
    assert found == pytest.approx(np.array([3.6 / np.sqrt(2)]), rel=1e-12)


def test_many_atoms_are_done_in_parts() -> None:
    atoms = bulk("Al", cubic=True) * (4, 4, 4)  # 256 atoms: 32 896 pairs, more than one part
    atoms.rattle(0.1, seed=1)
    cell = np.array(atoms.cell)
    blocks = list(image_pairs(atoms.positions, cell))
    assert len(blocks) > 1
    assert each_once(whole(blocks))
    found = as_table(whole(blocks), len(atoms))
    expected = atoms.get_all_distances(mic=True)
    off_diagonal = ~np.eye(len(atoms), dtype=bool)
    assert np.abs(found - expected)[off_diagonal].max() < 1e-9  # A


# ------------------------------------------------------------------------------- many atoms


def grid(n_atoms: int, spacing: float) -> Array:
    """Atoms on a slightly disturbed cubic lattice."""
    side = int(np.ceil(n_atoms ** (1 / 3)))
    points = np.stack(np.meshgrid(*[np.arange(side)] * 3), axis=-1).reshape(-1, 3)[:n_atoms]
    return points * spacing + np.random.default_rng(1).uniform(-0.1, 0.1, (n_atoms, 3))


def test_pairs_of_many_atoms_grow_with_the_atoms_only() -> None:
    # 1.7 A apart: the 26 boxes of 3 A around an atom hold some 5.5 atoms each.
    for n_atoms in (4000, 20_000):
        blocks = molecule_pairs(grid(n_atoms, 1.7), 3.0)
        assert sum(len(first) for first, _, _ in blocks) < 100 * n_atoms


STRANGE = grid(20_000, 1.7)
STRANGE[-1] += 100.0


@pytest.mark.parametrize(
    ("positions", "side", "words"),
    [
        (grid(20_000, 1.7), None, None),
        (STRANGE, None, "atom 20000 has flown apart"),
        (grid(3000, 5.0), None, None),  # each farther from all others than a bond is long
        (np.zeros((20_000, 3)), None, "atoms 1 and 2 overlap"),
        (grid(20_000, 1.7), 28 * 1.7, None),
        (grid(20_000, 1.7), 27 * 1.7, "overlap"),
        (np.linspace([0.0, 0, 0], [1.0, 0, 1500 * 1.7], 1500, endpoint=False), 1.0, None),
    ],
    ids=["molecule", "lonely", "gas", "point", "crystal", "overlap", "thin crystal"],
)
def test_a_check_of_many_atoms_takes_little_memory(
    positions: Array, side: float | None, words: str | None
) -> None:
    cell = np.zeros((3, 3)) if side is None else side * np.eye(3)
    if side == 1.0:
        cell[2, 2] = 1500 * 1.7
    tracemalloc.start()
    problem = geometry_problem(
        positions, cell, side is not None, np.full(len(positions), 0.7), LIMITS
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (problem is None) if words is None else (words in str(problem))
    assert peak < 150e6  # bytes; all pairs of 20 000 atoms take 12.6e9
