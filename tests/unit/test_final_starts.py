"""Where the test of the finished models starts: where the run's own MD comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from label_parts import some_label

from fhi_al.active_learning.excess_energy import ExcessEnergy
from fhi_al.active_learning.final_starts import start_point
from fhi_al.core.label import Label
from fhi_al.core.plausible import GeometryLimits
from fhi_al.core.structure import structure
from fhi_al.core.trajectory import TrajectoryState
from fhi_al.md.conditions import MDConditions
from fhi_al.md.point import MDPoint
from fhi_al.md.system import MDSystem

NVT = MDConditions("Langevin", 300.0, 0.5, 0.01, 100.0, 0.01, 1)
NPT = replace(NVT, barostat="CellRescaling")
CELL = 4.0 * np.eye(3)
COPPER = structure([29, 29], [[0.0, 0.0, 0.0], [2.0, 2.0, 0.1]], CELL)
OTHER = (COPPER.positions + 0.1, 1.01 * CELL)
ANY = ExcessEnergy(None, lambda _: 0.0, lambda *_: pytest.fail("not needed"))


def label_of(number: int, cell: np.ndarray = CELL, system: int = 0) -> Label:
    """The number is the energy, and where the first atom is."""
    positions = COPPER.positions + 0.01 * number
    values = {"positions": positions, "cell": cell, "energy": float(number), "system": system}
    return some_label(number, 2, True, numbers=COPPER.numbers, **values)


def moved(conditions: MDConditions = NVT, *starts: tuple[np.ndarray, np.ndarray]) -> MDSystem:
    return MDSystem(COPPER, conditions, GeometryLimits(), starts=starts)


def drawn(
    labels: Sequence[Label],
    md_system: MDSystem,
    excess: ExcessEnergy = ANY,
    start: int = 0,
) -> list[MDPoint]:
    """Many starts of a trajectory."""
    trajectory = TrajectoryState(0, start=start)
    return [
        start_point(labels, trajectory, md_system, excess, np.random.default_rng(seed))
        for seed in range(40)
    ]


def numbers(points: Sequence[MDPoint]) -> set[int]:
    return {round(100 * point.positions[0, 0]) for point in points}


LABELS = [
    label_of(1),
    label_of(2, 0.965 * CELL),  # 0.9 of the volume
    label_of(3, CELL + 1e-6),  # of a file
    label_of(4, CELL @ np.diag([1.02, 1.0, 1.0])),
    label_of(5, 1.01 * CELL),
    label_of(6, system=1),
]


def test_a_cell_that_nothing_moves_is_that_of_a_start() -> None:
    points = drawn(LABELS, moved())
    assert numbers(points) == {1, 3}
    assert all(np.abs(point.cell - CELL).max() < 1e-5 for point in points)  # A
    assert all(point.momenta.any() for point in points)
    both = moved(NVT, (COPPER.positions, CELL), OTHER)
    assert numbers(drawn(LABELS, both)) == {1, 3, 5}


def test_with_a_barostat_any_cell_will_do() -> None:
    assert numbers(drawn(LABELS, moved(NPT))) == {1, 2, 3, 4, 5}


def test_labels_that_md_does_not_go_on_from_are_no_starts() -> None:
    labels = [label_of(number) for number in range(1, 7)]
    # 3 eV is 1 eV per atom above the mean of 1 eV.
    excess = ExcessEnergy(1.0, lambda _: 1.0, lambda *_: pytest.fail("not needed"))
    assert numbers(drawn(labels, moved(), excess)) == {1, 2, 3}


def test_where_no_label_will_do_it_is_the_starting_geometry() -> None:
    strained = [label_of(2, 0.965 * CELL)]
    for labels in (strained, []):
        for point in drawn(labels, moved()):
            np.testing.assert_array_equal(point.positions, COPPER.positions)
            np.testing.assert_array_equal(point.cell, CELL)
            assert point.momenta.any()
    both = moved(NVT, (COPPER.positions, CELL), OTHER)
    for point in drawn(strained, both, start=1):
        np.testing.assert_array_equal(point.positions, OTHER[0])


def test_of_molecules_all_labels_will_do() -> None:
    water = [some_label(seed) for seed in range(3)]
    one = structure(water[0].numbers, water[0].positions)
    points = drawn(water, MDSystem(one, NVT, GeometryLimits()))
    found = {point.positions.tobytes() for point in points}
    assert found == {label.positions.tobytes() for label in water}
