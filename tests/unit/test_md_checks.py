"""Looking at all trajectories at once says what looking at each says; cells may not run away."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units

from fhi_al.core.plausible import GeometryLimits, geometry_problem
from fhi_al.core.structure import Array, Structure, structure
from fhi_al.md.checks import cell_problem, heat_problems, structure_problems
from fhi_al.md.conditions import MDConditions
from fhi_al.md.point import MDPoint
from fhi_al.md.state import concatenated, state_of
from fhi_al.md.system import MDSystem

LIMITS = GeometryLimits(min_distance=0.6, max_distance=2.2)


def md_system(own: Structure, limits: GeometryLimits = LIMITS) -> MDSystem:
    return MDSystem(own, MDConditions("Langevin", 300.0, 1.0, 0.01, 100.0, 0.01, 1), limits)


def at(positions: Array, cell: Array) -> MDPoint:
    return MDPoint(positions, np.zeros_like(positions), cell)


def chain(n_atoms: int) -> Structure:
    """Longer than the largest distance to a neighbour."""
    positions = np.array([[1.3 * k, 0.3 * (k % 2), 0.0] for k in range(n_atoms)])
    return structure([6, 8] * (n_atoms // 2) + [6] * (n_atoms % 2), positions)


def cube(n: int, edge: float) -> Structure:
    places = np.array(list(np.ndindex(n, n, n))) * edge / n
    return structure([14] * n**3, places, cell=np.eye(3) * edge)


SYSTEMS = {
    "short": chain(3),
    "long": chain(9),
    "one atom": structure([8], [[0.0, 0, 0]]),
    "crystal": cube(2, 5.4),
    "small cell": cube(1, 2.4),
    "skewed": structure([14, 14], [[0, 0, 0], [1.3, 1.3, 1.3]], cell=np.array(
        [[0, 2.7, 2.7], [2.7, 0, 2.7], [2.7, 2.7, 0]]
    )),
}  # fmt: skip


def test_together_they_are_judged_as_each_is() -> None:
    random = np.random.default_rng(1)
    systems, points = [], []
    known = {name: md_system(one) for name, one in SYSTEMS.items()}
    for width in np.linspace(0.0, 0.9, 40):
        for system in known.values():
            own = system.structure
            positions = own.positions + random.normal(0, width, own.positions.shape)
            systems.append(system)
            points.append(at(positions, own.cell))
    points[3].positions[0, 0] = np.nan
    points[8].positions[0, 2] = np.inf
    found = structure_problems(systems, state_of(points, {}))
    expected = {}
    for place, (system, point) in enumerate(zip(systems, points, strict=True)):
        problem = geometry_problem(
            point.positions, point.cell, system.structure.pbc, system.radii, system.limits
        )
        if problem is not None:
            expected[place] = problem
    assert found == expected
    kinds = " ".join(expected.values())
    assert all(word in kinds for word in ("overlap", "flown apart", "not finite"))
    assert 40 < len(expected) < 200


@pytest.mark.parametrize("start", [cube(2, 5.4), SYSTEMS["skewed"]], ids=["cube", "skewed"])
def test_a_cell_that_collapses_or_explodes_makes_no_sense(start: Structure) -> None:
    system = md_system(start, GeometryLimits(0.1))
    own = start.cell

    def problem(strain: Array) -> str | None:
        """Of the lattice vectors (rows) times a matrix."""
        cell = strain @ own
        (found,) = structure_problems(
            [system], state_of([at(start.positions @ np.linalg.inv(own) @ cell, cell)], {})
        ).values() or [None]
        assert found == cell_problem(system, cell)
        return found

    unit = np.eye(3)
    assert problem(unit) is None
    assert problem(0.85 * unit) is None and problem(1.2 * unit) is None
    assert "the cell has collapsed: its volume is" in str(problem(0.75 * unit))
    assert "the cell has exploded: its volume is" in str(problem(1.3 * unit))
    # As flat as it is wide: half of the volume would be left.
    assert "its lowest height" in str(problem(np.diag([1.3, 1.3, 0.35])))
    assert "collapsed" in str(cell_problem(system, np.zeros((3, 3))))
    assert structure_problems(
        [system], state_of([at(start.positions, own * np.nan)], {})
    ) == {0: "positions are not finite"}  # fmt: skip


def test_heat_is_that_of_the_coordinates_that_move() -> None:
    systems = [md_system(chain(3)), md_system(cube(2, 5.4))]
    points = [at(one.structure.positions, one.structure.cell) for one in systems]
    constants = concatenated([one.constants for one in systems])
    state = state_of(points, {})
    assert heat_problems(systems, state, constants) == {}
    # One velocity along x, of 6 and 21 coordinates: E = 12 n kT / 2 and E = 8 n kT / 2.
    momenta = np.zeros_like(state.momenta)
    for atom, share in ((0, 12 * 6), (3, 8 * 21)):
        momenta[atom, 0] = np.sqrt(share * 300 * units.kB * constants.masses[atom, 0])
    momenta_of = np.split(momenta, [3])
    moving = [MDPoint(p.positions, own, p.cell) for p, own in zip(points, momenta_of, strict=True)]
    # Six coordinates may by chance be (6 + 2 sqrt(6 x 20) + 2 x 20) / 6 times as hot.
    assert heat_problems(systems, state_of(moving, {}), constants) == {
        0: "the temperature is 3600 K, at most 3395 K was expected"
    }


@pytest.mark.parametrize(
    ("thermostat", "name", "n_free"),
    [
        ("Langevin", "long", 3 * 9 - 3),  # turns the molecule, holds its centre
        (None, "long", 3 * 9 - 6),  # neither starts
        ("Bussi", "crystal", 3 * 8 - 3),
        ("Bussi", "one atom", 3),
    ],
)
def test_a_temperature_is_of_the_coordinates_that_move(
    thermostat: str | None, name: str, n_free: int
) -> None:
    own = SYSTEMS[name]
    conditions = MDConditions(thermostat, 300.0, 1.0, 0.01, 100.0, 0.01, 1)
    system = MDSystem(own, conditions, LIMITS)
    # One atom with the energy of all: half of kT for each coordinate.
    momenta = np.zeros((len(own), 3))
    momenta[0, 2] = np.sqrt(n_free * units.kB * 412.0 * system.masses[0])
    point = MDPoint(own.positions, momenta, own.cell)
    assert system.temperature(point) == pytest.approx(412.0)
