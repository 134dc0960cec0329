"""Temperatures and pressures that change with the MD steps, against numbers by hand."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units

from fhi_al.core.plausible import GeometryLimits
from fhi_al.core.schedule import (
    Schedule,
    highest,
    lowest,
    quantity_of,
    ramp,
    scaled,
    value_at,
    values_at,
)
from fhi_al.core.structure import structure
from fhi_al.md.conditions import MDConditions
from fhi_al.md.point import random_stream
from fhi_al.md.system import MDSystem
from fhi_al.md.targets import Targets

STEPS = np.array([0, 1, 50, 99, 100, 101, 10_000])


def conditions(**changes: object) -> MDConditions:
    values = {"temperature": 300.0, "timestep": 1.0, "friction": 0.01, "thermostat_time": 100.0}
    return MDConditions("Langevin", **{**values, "andersen_prob": 0.01, "seed": 1, **changes})  # type: ignore[arg-type]


def md_system(**changes: object) -> MDSystem:
    water = structure([8, 1, 1], [[0, 0, 0.1], [0, 0.8, -0.5], [0, -0.8, -0.5]])
    return MDSystem(water, conditions(**changes), GeometryLimits())


def test_a_ramp_is_linear_and_then_stays() -> None:
    up = ramp(300.0, 1300.0, 100)
    assert up.at(STEPS).tolist() == [300, 310, 800, 1290, 1300, 1300, 1300]
    assert [value_at(up, step) for step in (0, 25)] == [300, 550]
    down = ramp(1300.0, 300.0, 100)
    assert down.at(STEPS).tolist() == [1300, 1290, 800, 310, 300, 300, 300]
    assert (highest(down), lowest(down), highest(7.0)) == (1300, 300, 7)


def test_steps_hold_until_the_next_one() -> None:
    found = quantity_of({100: 600.0, 0: 300.0, 101: 5.0})
    assert values_at(found, STEPS).tolist() == [300, 300, 300, 300, 600, 5, 5]
    assert values_at(4.5, STEPS).tolist() == [4.5] * 7
    assert quantity_of({"from": 1.0, "to": 2.0, "over": 10}) == ramp(1.0, 2.0, 10)
    assert quantity_of(3) == 3.0
    assert value_at(scaled(ramp(1.0, 2.0, 10), 10.0), 5) == 15.0
    assert str(found) == "300 from 0, 600 from 100, 5 from 101"
    assert str(ramp(300.0, 1200.0, 50)) == "300 to 1200 in 50 steps"


@pytest.mark.parametrize(
    ("steps", "values"), [((), ()), ((1, 2), (3.0, 4.0)), ((0, 5, 5), (1.0, 2.0, 3.0)), ((0,), ())]
)
def test_a_schedule_begins_at_0_and_goes_forward(steps: tuple[int], values: tuple[float]) -> None:
    with pytest.raises(ValueError, match="Schedule"):
        Schedule(steps, values, is_ramp=True)


def test_conditions_at_a_step_have_plain_numbers() -> None:
    md = conditions(
        temperature=ramp(100.0, 200.0, 10), pressure=Schedule((0, 4), (0.0, 1.0), False)
    )
    assert md.is_scheduled
    assert (md.at(5).temperature, md.at(5).pressure, md.at(3).pressure) == (150.0, 1.0, 0.0)
    assert not md.at(5).is_scheduled
    plain = conditions()
    assert plain.at(7) is plain
    with pytest.raises(ValueError, match=r"temperature = 0"):
        conditions(temperature=ramp(300.0, 0.0, 10))


def test_every_trajectory_is_held_at_what_its_own_steps_say() -> None:
    systems = [md_system(temperature=ramp(100.0, 200.0, 10)), md_system(temperature=77.0)]
    targets = Targets.of(systems, [8, 3], 4)
    assert targets is not None
    kelvin = targets.temperatures / units.kB
    assert kelvin == pytest.approx(np.array([[180, 77], [190, 77], [200, 77], [200, 77]]))
    constants = targets.constants(systems[0].constants, 1)
    assert constants.temperature[0] / units.kB == pytest.approx(190)
    assert targets.take([1]).temperatures.shape == (4, 1)
    assert Targets.of(systems[1:], [3], 4) is None


def test_velocities_are_of_the_temperature_at_their_step() -> None:
    system = md_system(temperature=ramp(100.0, 900.0, 10))
    at = system.start(random_stream(1))
    later = system.new_velocities(at, random_stream(1), 10)
    # The same random numbers: nine times the temperature, three times the momenta.
    assert later.momenta == pytest.approx(3 * at.momenta)
