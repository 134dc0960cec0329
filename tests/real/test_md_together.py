"""Trajectories advanced together go where each would go alone, whatever computes their forces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ase import units
from ase.calculators.emt import EMT
from ase.md.langevin import Langevin
from md_parts import THERMOSTATS, Springs, bits, conditions, crystal, molecule

from fhi_al.core.plausible import GeometryLimits
from fhi_al.core.structure import Array, Structure
from fhi_al.md.conditions import MDConditions
from fhi_al.md.engine import advance
from fhi_al.md.evaluation import Evaluation, MovingStructure, forces_of_calculator
from fhi_al.md.live_trajectory import LiveTrajectory
from fhi_al.md.point import MDFailure, MDPoint, random_stream
from fhi_al.md.system import MDSystem

pytestmark = pytest.mark.real


class Calls:
    """Answers with springs for molecules, EMT for crystals, and notes who asked."""

    def __init__(self) -> None:
        self.pending: list[set[int]] = []
        self._springs = forces_of_calculator(Springs(molecule().positions))
        self._emt = forces_of_calculator(EMT())

    def __call__(self, pending: Mapping[int, MovingStructure]) -> dict[int, Any]:
        self.pending.append(set(pending))
        return {
            place: (self._emt if one.pbc else self._springs)({place: one})[place]
            for place, one in pending.items()
        }


def md_system(system: Structure, thermostat: Any, **changes: Any) -> MDSystem:
    return MDSystem(system, conditions(thermostat, **changes), GeometryLimits())


def moving(start: MDPoint, *purpose: int) -> LiveTrajectory:
    """A trajectory at a point, with a random stream of its own."""
    return LiveTrajectory.at(start, random_stream(2, *purpose))


def forces_at(system: MDSystem, point: MDPoint) -> Array:
    structure = MovingStructure(
        0, system.structure.numbers, point.positions, point.cell, system.structure.pbc, False
    )
    answer = Calls()({0: structure})[0]
    assert isinstance(answer, Evaluation)
    return answer.forces


def test_together_is_bitwise_alone_for_all_thermostats_systems_and_lengths() -> None:
    half = np.repeat([[True], [False]], 3, axis=0).repeat(3, axis=1)
    every = (molecule(), crystal(), molecule(half))
    systems = [md_system(system, t) for t in THERMOSTATS for system in every]
    starts = [system.start(random_stream(4, k)) for k, system in enumerate(systems)]
    lengths = [3 + (5 * k) % 17 for k in range(len(systems))]
    together = [moving(start, k) for k, start in enumerate(starts)]
    calls = Calls()
    found = advance(together, systems, lengths, calls)
    for k, (system, start, n_steps) in enumerate(zip(systems, starts, lengths, strict=True)):
        alone = moving(start, k)
        (end,) = advance([alone], [system], [n_steps], Calls())
        assert isinstance(end, MDPoint)
        assert bits(found[k]) == bits(end)
        assert together[k].random_state() == alone.random_state()
    # Once for everyone at the start, then once for each step of those that still move.
    assert [len(pending) for pending in calls.pending] == [
        sum(n >= step for n in lengths) for step in range(max(lengths) + 1)
    ]


def test_known_forces_are_not_computed_again_and_change_nothing() -> None:
    system, calls = md_system(molecule(), "Langevin"), Calls()
    start = system.start(random_stream(1))
    known = forces_at(system, start)
    (with_forces,) = advance([moving(start)], [system], [4], calls, [known])
    n_calls = len(calls.pending)
    (without,) = advance([moving(start)], [system], [4], calls)
    assert n_calls == 4
    assert len(calls.pending) == n_calls + 5
    assert isinstance(with_forces, MDPoint) and isinstance(without, MDPoint)
    assert bits(with_forces) == bits(without)


def test_one_that_explodes_drops_out_and_the_others_go_on() -> None:
    good = md_system(molecule(), "Langevin")
    wild = md_system(molecule(), "Langevin", timestep=60.0)
    start = good.start(random_stream(1))
    calls, together = Calls(), [moving(start, k) for k in range(3)]
    found = advance(together, [good, wild, good], [30] * 3, calls)
    assert isinstance(found[1], MDFailure)
    assert calls.pending[0] == {0, 1, 2} and calls.pending[-1] == {0, 2}
    (alone,) = advance([moving(start, 2)], [good], [30], Calls())
    assert isinstance(found[2], MDPoint) and isinstance(alone, MDPoint)
    assert bits(found[2]) == bits(alone)
    # Its stream is where the step left it that failed, as if it had been drawn step by step.
    n_begun = sum(1 in pending for pending in calls.pending)
    stream = random_stream(2, 1)
    for _ in range(n_begun):
        stream.standard_normal((6, 3))
        stream.standard_normal((6, 3))
    assert together[1].random_state() == dict(stream.bit_generator.state)


@pytest.mark.parametrize("thermostat", ["Langevin", "Andersen", "Bussi"])
def test_a_block_drawn_at_once_has_the_random_numbers_of_its_steps(thermostat: Any) -> None:
    system = md_system(molecule(), thermostat)
    start = system.start(random_stream(1))
    whole, steps = moving(start), moving(start)
    (end,) = advance([whole], [system], [6], Calls())
    for _ in range(6):
        (point,) = advance([steps], [system], [1], Calls())
        assert isinstance(point, MDPoint)
        steps.point = point
    assert isinstance(end, MDPoint) and bits(end) == bits(steps.point)
    assert whole.random_state() == steps.random_state()


def test_a_label_that_is_refused_ends_one_trajectory_at_its_step() -> None:
    """The engine may say why it has no forces; the others go on."""
    calls = Calls()

    def forces(pending: Mapping[int, MovingStructure]) -> dict[int, Any]:
        answers = calls(pending)
        if len(calls.pending) == 4 and 0 in answers:
            answers[0] = MDFailure("the label was discarded: the SCF did not converge")
        return answers

    system = md_system(molecule(), "Bussi")
    start = system.start(random_stream(1))
    together = [moving(start, k) for k in range(2)]
    failed, fine = advance(together, [system] * 2, [9, 9], forces)
    assert isinstance(failed, MDFailure) and "SCF" in str(failed)
    assert isinstance(fine, MDPoint)
    shorter = moving(start, 0)
    advance([shorter], [system], [3], Calls())  # the first forces, and those of three steps
    assert together[0].random_state() == shorter.random_state()


def test_structures_may_be_looked_at_once_a_block_only() -> None:
    wild = md_system(molecule(), "Langevin", timestep=60.0)
    good = md_system(molecule(), "Langevin")
    start = good.start(random_stream(1))
    calls = Calls()
    together = [moving(start, k) for k in range(2)]
    with np.errstate(all="ignore"):
        found = advance(together, [wild, good], [30] * 2, calls, check_every=30)
    assert isinstance(found[0], MDFailure)
    every_step = Calls()
    advance([moving(start, 0)], [wild], [30], every_step)
    assert sum(0 in pending for pending in calls.pending) > len(every_step.pending)
    (alone,) = advance([moving(start, 1)], [good], [30], Calls())
    assert isinstance(found[1], MDPoint) and isinstance(alone, MDPoint)
    assert bits(found[1]) == bits(alone)


def test_an_error_of_who_is_asked_reaches_the_caller_and_leaves_nothing_behind() -> None:
    system = md_system(molecule(), "Bussi")
    start = system.start(random_stream(1))

    def fails(pending: Mapping[int, MovingStructure]) -> dict[int, Any]:
        raise OSError("the other rank is gone")

    with pytest.raises(OSError, match="the other rank"):
        advance([moving(start, k) for k in range(2)], [system] * 2, [3, 3], fails)
    (again,) = advance([moving(start)], [system], [3], Calls())
    assert isinstance(again, MDPoint)


def test_trajectories_of_different_conditions_share_a_scheme() -> None:
    """Temperature, time step and friction are each trajectory's own."""
    changes: list[dict[str, float]] = [
        {}, {"temperature": 900.0}, {"timestep": 0.5}, {"friction": 0.001}
    ]  # fmt: skip
    systems = [md_system(molecule(), "Langevin", **one) for one in changes]
    start = systems[0].start(random_stream(1))
    found = advance([moving(start) for _ in systems], systems, [5] * 4, Calls())
    for system, end in zip(systems, found, strict=True):
        (alone,) = advance([moving(start)], [system], [5], Calls())
        assert isinstance(end, MDPoint) and isinstance(alone, MDPoint)
        assert bits(end) == bits(alone)
    assert len({bits(end) for end in found if isinstance(end, MDPoint)}) == 4


def test_a_block_of_no_steps_stays_where_it_is() -> None:
    system = md_system(molecule(), "Langevin")
    start = system.start(random_stream(1))
    calls = Calls()
    (end,) = advance([moving(start)], [system], [0], calls)
    assert isinstance(end, MDPoint) and bits(end) == bits(start)
    assert calls.pending == []


def ase_langevin(atoms: Any, md: MDConditions, generator: np.random.Generator) -> Any:
    return Langevin(
        atoms,
        md.timestep * units.fs,
        temperature_K=md.temperature,
        friction=md.friction / units.fs,
        fixcm=False,
        rng=generator,
    )


def test_an_integrator_of_ase_moves_its_trajectories_one_after_the_other() -> None:
    """Beside others, with the same checks; half the atoms are fixed, so that Langevin is ours."""
    half = np.repeat([[True], [False]], 3, axis=0).repeat(3, axis=1)
    own = md_system(molecule(half), "Langevin", own_integrator=ase_langevin)
    ours = md_system(molecule(half), "Langevin")
    start = ours.start(random_stream(1))
    calls, streams = Calls(), [moving(start, 0), moving(start, 0), moving(start, 1)]
    theirs, same, other = advance(streams, [own, ours, own], [8] * 3, calls)
    assert [pending for pending in calls.pending if len(pending) == 1][:9] == [{0}] * 9
    assert isinstance(theirs, MDPoint) and isinstance(same, MDPoint) and isinstance(other, MDPoint)
    assert theirs.positions == pytest.approx(same.positions, abs=1e-12)
    assert streams[0].random_state() == streams[1].random_state()
    assert np.abs(other.positions - same.positions).max() > 1e-3
    wild = md_system(molecule(half), "Langevin", own_integrator=ase_langevin, timestep=80.0)
    (failure,) = advance([moving(start, 0)], [wild], [50], Calls())
    assert isinstance(failure, MDFailure)


def test_a_point_in_another_cell_is_not_where_forces_were_computed() -> None:
    system = md_system(crystal(), None)
    start = system.start(random_stream(1))
    strained = replace(start, cell=1.01 * start.cell)
    structure = MovingStructure(
        0, system.structure.numbers, start.positions, start.cell, True, False
    )
    assert structure.is_at(start) and not structure.is_at(strained)
