"""Trajectories advanced together go where each would go alone, whatever asks for their forces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from md_parts import THERMOSTATS, Springs, bits, conditions, crystal, molecule

from fhi_al.core.plausible import GeometryLimits
from fhi_al.core.structure import Array, Structure
from fhi_al.md.driver import Driver, MDPoint, random_stream
from fhi_al.md.live_trajectory import LiveTrajectory
from fhi_al.md.together import BatchedForceCalculator, advance_together
from fhi_al.md.validating import MDFailure

pytestmark = pytest.mark.real


class Calls:
    """Answers with springs for molecules, EMT for crystals, and notes who asked."""

    def __init__(self) -> None:
        self.pending: list[set[int]] = []
        self.springs = Springs(molecule().positions)

    def __call__(self, pending: Mapping[int, Atoms]) -> dict[int, Array]:
        self.pending.append(set(pending))
        return {place: self.forces(atoms) for place, atoms in pending.items()}

    def forces(self, atoms: Atoms) -> Array:
        calculator: Any = EMT() if atoms.pbc.any() else self.springs
        calculator.calculate(atoms.copy(), ["forces"])
        return np.array(calculator.results["forces"])


def handed_over(system: Structure, thermostat: Any, limits: Any = None, **changes: Any) -> Driver:
    return Driver(
        system,
        conditions(thermostat, **changes),
        BatchedForceCalculator(),
        limits or GeometryLimits(),
    )


def moving(start: MDPoint, *purpose: int) -> LiveTrajectory:
    """A trajectory at a point, with a random stream of its own."""
    return LiveTrajectory.at(start, random_stream(2, *purpose))


def calculator_of(system: Structure) -> Any:
    return EMT() if system.pbc else Springs(molecule().positions)


def test_together_is_bitwise_alone_for_all_thermostats_systems_and_lengths() -> None:
    systems = [(system, t) for system in (molecule(), crystal()) for t in THERMOSTATS]
    trajectories, drivers, lengths, alone = [], [], [], []
    for place, (system, thermostat) in enumerate(systems):
        together = handed_over(system, thermostat)
        start = together.start(random_stream(4, place))
        n_steps = 3 + place
        trajectories.append(LiveTrajectory.at(start, random_stream(5, place)))
        drivers.append(together)
        lengths.append(n_steps)
        by_itself = Driver(system, together.conditions, calculator_of(system), GeometryLimits())
        alone.append(by_itself.advance(start, n_steps, random_stream(5, place)))
    calls = Calls()
    found = advance_together(trajectories, drivers, lengths, calls)
    for one, other in zip(found, alone, strict=True):
        assert isinstance(one, MDPoint)
        assert bits(one) == bits(other)
    # Once for everyone at the start, then once for each step of those that still move.
    assert [len(pending) for pending in calls.pending] == [
        sum(n >= step for n in lengths) for step in range(max(lengths) + 1)
    ]


def test_known_forces_are_not_asked_for_again_and_change_nothing() -> None:
    driver, calls = handed_over(molecule(), "Langevin"), Calls()
    start = driver.start(random_stream(1))
    known = calls.forces(Atoms(molecule().numbers, start.positions))
    (with_forces,) = advance_together([moving(start)], [driver], [4], calls, [known])
    n_calls = len(calls.pending)
    (without,) = advance_together([moving(start)], [driver], [4], calls)
    assert n_calls == 4
    assert len(calls.pending) == n_calls + 5
    assert isinstance(with_forces, MDPoint) and isinstance(without, MDPoint)
    assert bits(with_forces) == bits(without)


def test_one_that_explodes_drops_out_and_the_others_go_on() -> None:
    good = handed_over(molecule(), "Langevin")
    wild = handed_over(molecule(), "Langevin", timestep=60.0)
    start = good.start(random_stream(1))
    calls = Calls()
    found = advance_together(
        [moving(start, k) for k in range(3)], [good, wild, good], [30] * 3, calls
    )
    assert isinstance(found[1], MDFailure)
    assert calls.pending[0] == {0, 1, 2} and calls.pending[-1] == {0, 2}
    (alone,) = advance_together([moving(start, 2)], [good], [30], Calls())
    assert isinstance(found[2], MDPoint) and isinstance(alone, MDPoint)
    assert bits(found[2]) == bits(alone)


def test_an_error_of_who_is_asked_reaches_the_caller_and_leaves_nothing_behind() -> None:
    driver = handed_over(molecule(), "Bussi")
    start = driver.start(random_stream(1))

    def fails(pending: Mapping[int, Atoms]) -> dict[int, Array]:
        raise OSError("the other rank is gone")

    with pytest.raises(OSError, match="the other rank"):
        advance_together([moving(start, k) for k in range(2)], [driver] * 2, [3, 3], fails)
    (again,) = advance_together([moving(start)], [driver], [3], Calls())
    assert isinstance(again, MDPoint)


def test_alone_such_a_driver_says_how_it_is_used() -> None:
    driver = handed_over(molecule(), None)
    with pytest.raises(RuntimeError, match="advance_together"):
        driver.advance(driver.start(random_stream(1)), 1, random_stream(1))


class Strained(Driver):
    """A driver whose first step strains the cell and leaves the atoms where they are."""

    def advance(self, point: MDPoint, n_steps: int, generator: np.random.Generator) -> MDPoint:
        return super().advance(replace(point, cell=1.01 * point.cell), n_steps, generator)


def test_forces_known_in_another_cell_are_asked_for_again() -> None:
    calls = Calls()
    driver = Strained(crystal(), conditions(None), BatchedForceCalculator(), GeometryLimits())
    start = driver.start(random_stream(1))
    known = calls.forces(Atoms(crystal().numbers, start.positions, cell=start.cell, pbc=True))
    (with_forces,) = advance_together([moving(start)], [driver], [2], calls, [known])
    assert len(calls.pending) == 3  # at the start, too: its cell is another
    (without,) = advance_together([moving(start)], [driver], [2], calls)
    assert isinstance(with_forces, MDPoint) and isinstance(without, MDPoint)
    assert bits(with_forces) == bits(without)
