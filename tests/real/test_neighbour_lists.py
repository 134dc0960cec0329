"""Lists with a skin give the pairs that a search gives, and are seldom made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.calculators.lj import LennardJones
from models_parts import SEEDS, settings

from fhi_al.core.plausible import GeometryLimits
from fhi_al.core.structure import Array, Structure, structure
from fhi_al.md.conditions import MDConditions
from fhi_al.md.engine import advance
from fhi_al.md.evaluation import forces_of_calculator
from fhi_al.md.live_trajectory import LiveTrajectory
from fhi_al.md.point import MDPoint, random_stream
from fhi_al.md.system import MDSystem
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.graphs import Neighbours
from fhi_al.models.neighbour_lists import NeighbourLists
from fhi_al.models.neighbours import neighbours

pytestmark = pytest.mark.real

CUTOFF = 4.0
ETHANOL = molecule("CH3CH2OH")
SILICON = bulk("Si", cubic=True)
# Two atoms in a cell lower than the cutoff: an atom has images of itself among its neighbours.
PRIMITIVE = bulk("Si")


def own(atoms: Any) -> Structure:
    cell = atoms.cell.array if atoms.pbc.any() else None
    return structure(atoms.numbers, atoms.positions, cell=cell)


def as_set(found: Neighbours) -> set[tuple[int, ...]]:
    rows = [*found.pairs, *np.round(found.unit_shifts).astype(int).T]
    return set(zip(*(row.tolist() for row in rows), strict=True))


def in_turn(lists: NeighbourLists, walk: list[tuple[Array, Array]], pbc: bool) -> None:
    for positions, cell in walk:
        given = lists.neighbours(0, positions, (pbc,) * 3, cell)
        fresh = neighbours(positions, (pbc,) * 3, cell, CUTOFF)
        assert as_set(given) == as_set(fresh)
        assert given.pairs.shape[1] == fresh.pairs.shape[1]
        vectors = positions[given.pairs[1]] - positions[given.pairs[0]]
        lengths = np.linalg.norm(vectors + given.unit_shifts @ given.cell, axis=1)
        assert lengths.max() < CUTOFF


@pytest.mark.parametrize("atoms", [ETHANOL, SILICON, PRIMITIVE], ids=["ethanol", "Si8", "Si2"])
@pytest.mark.parametrize("strains", [False, True])
def test_the_pairs_are_those_of_a_search(atoms: Any, strains: bool) -> None:
    random, lists = np.random.default_rng(1), NeighbourLists(neighbours, CUTOFF)
    positions, cell, pbc = atoms.positions.copy(), atoms.cell.array.copy(), bool(atoms.pbc.any())
    walk = []
    for _ in range(120):
        positions = positions + random.normal(0, 0.02, positions.shape)
        if strains and pbc:
            strain = np.eye(3) + random.normal(0, 0.002, (3, 3))
            positions, cell = positions @ strain, cell @ strain
        walk.append((positions, cell))
    in_turn(lists, walk, pbc)
    # Each atom has walked 0.2 sqrt(3) A; lists hold for 0.3 A, of the farthest.
    assert 1 < lists.n_searches < 30


def test_a_crystal_that_only_breathes_needs_no_other_list() -> None:
    lists = NeighbourLists(neighbours, CUTOFF)
    start = SILICON.positions, SILICON.cell.array
    walk = [(start[0] * a, start[1] * a) for a in np.linspace(0.96, 1.06, 20)]
    in_turn(lists, [start, *walk], pbc=True)
    # (4 + 0.6) A times 0.9 would be more than 4 A.
    assert lists.n_searches == 1


def test_what_is_found_does_not_depend_on_when_a_list_was_made() -> None:
    random, old = np.random.default_rng(1), NeighbourLists(neighbours, CUTOFF)
    positions, cell = SILICON.positions.copy(), SILICON.cell.array
    for _ in range(10):
        positions = positions + random.normal(0, 0.01, positions.shape)
        found = old.neighbours(0, positions, (True,) * 3, cell)
    fresh = NeighbourLists(neighbours, CUTOFF).neighbours(0, positions, (True,) * 3, cell)
    assert old.n_searches == 1
    assert found.pairs.tobytes() == fresh.pairs.tobytes()
    assert found.unit_shifts.tobytes() == fresh.unit_shifts.tobytes()


def test_a_list_of_another_structure_is_noticed() -> None:
    lists = NeighbourLists(neighbours, CUTOFF)
    for atoms in (ETHANOL, SILICON, ETHANOL, PRIMITIVE):
        pbc = bool(atoms.pbc.any())
        given = lists.neighbours(3, atoms.positions, (pbc,) * 3, atoms.cell.array)
        fresh = neighbours(atoms.positions, (pbc,) * 3, atoms.cell.array, CUTOFF)
        assert as_set(given) == as_set(fresh)
    assert lists.n_searches == 4


@dataclass(frozen=True, eq=False)
class Moving:
    """A structure of MD, as a predictor sees it."""

    numbers: Any
    positions: Array
    cell: Array
    pbc: bool
    place: int | None


@pytest.mark.parametrize("atoms", [ETHANOL, SILICON], ids=["ethanol", "Si8"])
def test_forces_of_a_model_are_those_without_lists(atoms: Any) -> None:
    """In an order of pairs of their own: the last bits differ."""
    made = Ensemble(settings(), set(atoms.numbers.tolist()), SEEDS)
    random, lists = np.random.default_rng(1), cast(Any, made.backend).lists
    system = own(atoms)
    for _ in range(3):
        moved = Moving(
            system.numbers,
            system.positions + random.normal(0, 0.03, system.positions.shape),
            system.cell,
            system.pbc,
            0,
        )
        (with_lists,) = made.predict([moved])
        (without,) = made.predict([replace(moved, place=None)])
        assert with_lists.forces == pytest.approx(without.forces, abs=1e-12)
        assert with_lists.energies == pytest.approx(without.energies, abs=1e-11)
    assert lists.n_searches == 1


def test_batches_of_moving_structures_lie_row_by_row_in_memory() -> None:
    """Pairs column by column cost MACE 6 to 9 % of its time, for the same numbers."""
    system = own(SILICON)
    backend = cast(Any, Ensemble(settings(), [14], SEEDS).backend)
    moving = Moving(system.numbers, system.positions, system.cell, system.pbc, 0)
    samples = [backend.sample(moving), backend.sample(replace(moving, place=1))]
    assert backend.lists.n_searches == 2
    made = backend.inputs(samples, torch.float64)
    assert [name for name, tensor in made.items() if not tensor.is_contiguous()] == []


def test_md_makes_few_lists() -> None:
    """Argon at 60 K, 400 steps of 2 fs: half the skin is reached some few times."""
    argon = bulk("Ar", a=5.3, cubic=True)
    system = MDSystem(
        own(argon), MDConditions("Langevin", 60.0, 2.0, 0.01, 100.0, 0.01, 1), GeometryLimits()
    )
    lists = NeighbourLists(neighbours, 6.0)
    forces = forces_of_calculator(LennardJones(sigma=3.4, epsilon=0.0104, rc=6.0))

    def counted(pending: Any) -> Any:
        for place, one in pending.items():
            lists.neighbours(place, one.positions, (True,) * 3, one.cell)
        return forces(pending)

    trajectory = LiveTrajectory.start(system, random_stream(1))
    (end,) = advance([trajectory], [system], [400], counted)
    assert isinstance(end, MDPoint)
    assert 1 <= lists.n_searches <= 20
