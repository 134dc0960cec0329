"""MD blocks: what they are called, who runs them, what a run under way makes of others."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase import units

from fhi_al.app.dynamics import NPT, Langevin, NoseHoover, Ramp
from fhi_al.app.options import md_conditions
from fhi_al.core.assignment import Conditions, Turns, assignments, trajectories_of
from fhi_al.core.plausible import GeometryLimits
from fhi_al.core.schedule import ramp, value_at
from fhi_al.core.structure import structure
from fhi_al.core.trajectory import TrajectoryState
from fhi_al.md.conditions import MDConditions
from fhi_al.md.system import MDSystem
from fhi_al.md.table import conditions_table
from fhi_al.settings import Settings, read_settings
from fhi_al.settings.changes import changes
from fhi_al.settings.md_blocks import md_blocks


def settings(folder: Path, md: Any, **keys: Any) -> Settings:
    content = {
        "ACTIVE_LEARNING": {"max_set_size": 9, "reference_engine": "tblite", **keys},
        "MD": md,
    }
    (folder / "active_learning_settings.yaml").write_text(yaml.safe_dump(content))
    (folder / "mace_settings.yaml").write_text("GENERAL:\n  seed: 1\n")
    return read_settings(folder)


RAMP = {"from": 300, "to": 1200, "over": 50}
NAMES: list[tuple[Any, list[str]]] = [
    ({}, ["300K"]),
    ({"name": "hot"}, ["hot"]),
    ({"temperature": [300, 500.5]}, ["300K", "500.5K"]),
    ({"temperature": "[300, 500]", "name": "a"}, ["a-300K", "a-500K"]),
    ([{}, {}, {"temperature": 500}], ["300K", "300K-1", "500K"]),
    ([{}, {"name": "300K"}], ["300K-0", "300K"]),
    (
        [{"temperature": RAMP}, {"temperature": {0: 300, 9: 600, 20: 100}}],
        ["300-1200K", "300-100K"],
    ),
    ([{"temperature": [300, RAMP]}, {"seed": 7}], ["300K", "300-1200K", "300K-2"]),
    ({0: {"seed": 1}, 1: {"temperature": 77}}, ["300K", "77K"]),
]


@pytest.mark.parametrize(("md", "names"), NAMES)
def test_blocks_have_names(tmp_path: Path, md: Any, names: list[str]) -> None:
    found = settings(tmp_path, md)
    assert [block.name for block in md_blocks(found.md)] == names
    assert [each.name for each in md_conditions(found)] == names
    # As the folder keeps it, it is read as the same again.
    (tmp_path / "active_learning_settings.yaml").write_text(found.as_yaml("active_learning"))
    assert read_settings(tmp_path) == found


def test_a_ladder_is_that_many_blocks_that_have_all_else_in_common(tmp_path: Path) -> None:
    md = {"temperature": [300, RAMP], "thermostat": "Bussi", "thermostat_time": 50, "seed": 3}
    cold, hot = md_conditions(settings(tmp_path, md))
    assert (cold.temperature, hot.temperature) == (300.0, ramp(300.0, 1200.0, 50))
    assert cold.thermostat == hot.thermostat == "Bussi"
    assert cold.seed == hot.seed == 3


def test_pressures_of_a_schedule_are_in_ev_per_cubic_angstrom(tmp_path: Path) -> None:
    md = {"stat_ensemble": "NPT", "pressure": {0: 1, 10: 20}}
    (found,) = md_conditions(settings(tmp_path, md))
    assert value_at(found.pressure, 10) == pytest.approx(20 * units.GPa)


def table(n: int, n_blocks: int, n_systems: int = 1) -> tuple[TrajectoryState, ...]:
    """Trajectories of systems that all have the same blocks, `n` of each."""
    systems = [Conditions(k, tuple(range(n_blocks))) for k in range(n_systems)]
    return trajectories_of(assignments(systems, [n] * n_systems))


def next_to_sample(n_sampled: int, n_members: int, n_blocks: int) -> int:
    """Of one system with a trajectory for each block."""
    return Turns([0] * n_blocks, [1.0], n_members).trajectory(n_sampled)


def test_trajectories_have_the_blocks_in_turn() -> None:
    found = table(7, 3)
    assert [(t.index, t.system, t.md) for t in found] == [
        *((0, 0, 0), (1, 0, 1), (2, 0, 2), (3, 0, 0), (4, 0, 1), (5, 0, 2), (6, 0, 0))
    ]
    pairs = [(t.system, t.md) for t in table(2, 2, n_systems=2)]
    assert pairs == [(0, 0), (1, 0), (0, 1), (1, 1)]


@pytest.mark.parametrize(("n_members", "n_blocks"), [(4, 4), (4, 2), (2, 3), (1, 5)])
def test_every_member_has_points_of_every_block(n_members: int, n_blocks: int) -> None:
    n_points = 5 * n_members * n_blocks
    turns = [next_to_sample(k, n_members, n_blocks) for k in range(n_points)]
    for member in range(n_members):
        assert Counter(turns[member::n_members]) == dict.fromkeys(range(n_blocks), 5)
    assert turns == [next_to_sample(k, n_members, n_blocks) for k in range(n_points)]


@pytest.mark.parametrize("n_blocks", [2, 3, 5])
@pytest.mark.parametrize("every", [4, 5, 9, 10, 20])
def test_what_is_validated_on_is_of_every_block(n_blocks: int, every: int) -> None:
    """Every tenth point of a member, say: with turns in one order it would be of one block."""
    of_a_member = [next_to_sample(4 * k, 4, n_blocks) for k in range(20 * every)]
    counts = Counter(of_a_member[::every])
    assert len(counts) == n_blocks and min(counts.values()) >= 2


def test_one_block_is_always_next() -> None:
    assert {next_to_sample(k, 4, 1) for k in range(50)} == {0}


def test_the_table_says_who_runs_what(tmp_path: Path) -> None:
    npt = {"stat_ensemble": "NPT", "barostat": "MTK", "pressure": {"from": 0, "to": 5, "over": 9}}
    md = [{"name": "a"}, {**npt, "name": "b", "temperature": RAMP}, {"stat_ensemble": "NVE"}]
    found: list[MDConditions] = md_conditions(settings(tmp_path, md))
    trajectories = table(40, 3)
    crystal = structure([29], [[0.0, 0.0, 0.0]], 3 * np.eye(3))
    systems = [MDSystem(crystal, each, GeometryLimits()) for each in found]
    header, *rows = conditions_table(trajectories, lambda t: systems[t.md])
    cells = [[cell.strip() for cell in row.split("  ") if cell.strip()] for row in (header, *rows)]
    assert cells[0][:3] == ["trajectories", "MD block", "ensemble"]
    assert cells[1] == ["0, 3, 6, ... 39 (14)", "a", "NVT", "Langevin", "-", "300", "-", "1"]
    assert cells[2][1:6] == ["b", "NPT", "NoseHoover", "MTK", "300 to 1200 in 50 steps"]
    assert cells[2][6] == "0 to 5 in 9 steps"
    assert cells[3][2:5] == ["NVE", "-", "-"]


def test_a_run_under_way_keeps_its_blocks(tmp_path: Path) -> None:
    before = settings(tmp_path, {"temperature": 300}).values()
    two = settings(tmp_path, [{"temperature": 300}, {"temperature": 500}]).values()
    assert changes(before, two) == ([], ["MD: 1 -> 2 blocks"])
    assert changes(two, before) == ([], ["MD: 2 -> 1 blocks"])
    ladder = settings(tmp_path, {"temperature": [300, 500]}).values()
    assert changes(before, ladder) == ([], ["MD.temperature: 300.0 -> [300.0, 500.0]"])
    # The same in another spelling, and a name of before this key.
    one = settings(tmp_path, [{"temperature": 300}]).values()
    assert changes(before, one) == ([], [])
    old = {label: value for label, value in before.items() if label != "MD.name"}
    assert changes(old, before) == ([], [])


def test_what_is_left_out_in_a_list_stays_what_the_run_began_with(tmp_path: Path) -> None:
    found = settings(tmp_path, [{"temperature": 300}, {"temperature": 500}])
    kept = found.with_values_of({**found.values(), "MD[1].friction": 0.5, "MD[1].temperature": 9.0})
    assert [block.friction for block in kept.md] == [0.01, 0.5]
    assert [block.temperature for block in kept.md] == [300.0, 500.0]
    assert "MD[1].friction: 0.5, with which the run began" in kept.notes[-1]


def test_a_schedule_that_no_trajectory_ends_is_told(tmp_path: Path) -> None:
    (note,) = (
        note
        for note in settings(tmp_path, {"temperature": RAMP}, max_MD_steps=40).notes
        if "temperature" in note
    )
    assert "comes to its end at MD step 50" in note and "max_MD_steps = 40" in note
    notes = settings(tmp_path, {"temperature": RAMP}, max_MD_steps=50).notes
    assert not [note for note in notes if "temperature" in note]


def test_python_objects_write_what_files_say() -> None:
    ladder = Langevin([300, Ramp(300, 900, over=50)], name="a")
    assert ladder.keys()["temperature"] == [300, {"from": 300, "to": 900, "over": 50}]
    assert ladder.keys()["name"] == "a"
    assert NoseHoover({0: 300, 20: 500}).keys()["temperature"] == {0: 300, 20: 500}
    assert NPT(300, pressure_GPa=Ramp(0, 5, 10)).keys()["pressure"] == {
        "from": 0,
        "to": 5,
        "over": 10,
    }
