"""Which system of the run a structure of a file is of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import pytest
import yaml
from ase import Atoms
from ase.build import bulk, molecule

from fhi_al.app.label.run_systems import are_described, read_run_systems, systems_of_run
from fhi_al.app.label.structure_systems import FileSystems
from fhi_al.engines.aims_input.control import parse_control
from fhi_al.engines.aims_input.geometry import parse_geometry
from fhi_al.engines.inputs import Inputs, SystemInput
from fhi_al.labels.structure_file import read_structures
from fhi_al.settings import Settings, read_settings

WATER = "atom 0 0 0 O\natom 0 0.76 -0.59 H\natom 0 -0.76 -0.59 H\n"
RADICAL = "atom 0 0 0 O\n  initial_moment 1\natom 0 0 0.97 H\n"
HYDROXIDE = "atom 0 0 0 O\natom 0 0 0.97 H\n"


def system(name: str, geometry: str, *, control: str = "", **more: Any) -> SystemInput:
    """A system of the run; its arguments are those that are left."""
    own = parse_control(control, Path(f"control_{name}.in")) if control else None
    arguments = more.pop("arguments", {})
    shape = parse_geometry(geometry, Path(f"{name}.in"))
    return SystemInput(shape, own, name, arguments=arguments, **more)


def matched(
    tmp_path: Path, frames: list[Atoms], *systems: SystemInput
) -> tuple[FileSystems | None, list[str]]:
    path = tmp_path / "a.traj"
    ase.io.write(path, frames)
    return systems_of_run(path, read_structures(path), Inputs(systems))


def found(tmp_path: Path, frames: list[Atoms], *systems: SystemInput) -> FileSystems:
    of_file, problems = matched(tmp_path, frames, *systems)
    assert not problems
    assert of_file is not None
    return of_file


def refused(tmp_path: Path, frames: list[Atoms], *systems: SystemInput) -> list[str]:
    of_file, problems = matched(tmp_path, frames, *systems)
    assert of_file is None
    return problems


def said(atoms: Atoms, name: object) -> Atoms:
    copy = atoms.copy()
    copy.info["system"] = name
    return copy


def test_atoms_say_whose_control_and_arguments_hold(tmp_path: Path) -> None:
    water = system("water", WATER, control="xc pbe")
    oh = system("oh", RADICAL, control="xc pbe0", arguments={"charge": -1})
    frames = [molecule("OH"), molecule("H2O"), molecule("OH")]
    systems = found(tmp_path, frames, water, oh)
    assert systems.system_of == (0, 1, 0)
    assert [one.name for one in systems.each] == ["oh", "water"]
    first, second = systems.each
    assert (first.arguments, second.arguments) == ({"charge": -1}, {})
    assert first.control is oh.control
    assert second.control is water.control
    # ASE's own OH has moments; those of the file come first.
    assert first.structure.initial_moments.tolist() == [0.5, 0.5]
    assert first.structure.positions.tolist() == frames[0].positions.tolist()
    (line,) = systems.described()
    assert line.endswith(
        "3 structures: 2 HO (molecule) of system oh, 1 H2O (molecule) of system water"
    )


def test_systems_of_the_same_atoms_are_told_apart_by_name(tmp_path: Path) -> None:
    ion = system("ion", HYDROXIDE, arguments={"charge": -1})
    radical = system("radical", RADICAL)
    plain = Atoms("OH", [[0, 0, 0], [0, 0, 1]])
    systems = found(tmp_path, [said(plain, "radical"), said(plain, "ion")], ion, radical)
    assert [one.arguments for one in systems.each] == [{}, {"charge": -1}]
    assert systems.each[0].structure.initial_moments.tolist() == [1.0, 0.0]
    assert systems.each[1].structure.initial_moments.tolist() == [0.0, 0.0]
    (problem,) = refused(tmp_path, [said(plain, "ion"), plain, plain], ion, radical)
    assert "a.traj: frames 2-3: could be of several systems (ion and radical)" in problem
    assert "system=NAME" in problem


def test_systems_that_differ_in_their_md_only_are_one(tmp_path: Path) -> None:
    cold, hot = (system(name, RADICAL, arguments={"charge": 0}) for name in ("cold", "hot"))
    plain = Atoms("OH", [[0, 0, 0], [0, 0, 1]])
    frames = [said(plain, "hot"), plain, said(plain, "cold")]
    systems = found(tmp_path, frames, cold, hot, system("water", WATER))
    assert systems.system_of == (0, 0, 0)
    assert not systems.notes


def test_other_moments_alone_make_a_choice_that_matters(tmp_path: Path) -> None:
    singlet, radical = system("singlet", HYDROXIDE), system("radical", RADICAL)
    plain = Atoms("OH", [[0, 0, 0], [0, 0, 1]])
    (problem,) = refused(tmp_path, [plain], singlet, radical)
    assert "frame 1: could be of several systems (singlet and radical)" in problem
    # But for a frame that has its own.
    plain.set_initial_magnetic_moments([0.7, 0.0])
    systems = found(tmp_path, [plain], singlet, system("radical", HYDROXIDE))
    assert systems.each[0].structure.initial_moments.tolist() == [0.7, 0.0]


def test_atoms_of_no_system_are_refused_where_systems_differ(tmp_path: Path) -> None:
    water, oh = system("water", WATER), system("oh", HYDROXIDE, arguments={"charge": -1})
    frames = [molecule("H2O"), molecule("CH4"), said(molecule("H2O"), "oh"), molecule("CH4")]
    problems = refused(tmp_path, frames, water, oh)
    assert len(problems) == 2
    assert "frames 2,4: has the atoms H4C, which no system has (water: H2O, oh: HO)" in problems[0]
    assert "(water, oh) differ in control.in or arguments" in problems[0]
    assert "frame 3: says system=oh" in problems[1]
    assert "has 3 atoms, oh has 2" in problems[1]
    crystal = molecule("H2O", vacuum=3.0)
    crystal.pbc = True
    (problem,) = refused(tmp_path, [crystal], water, oh)
    assert "frame 1: is a crystal (with a cell), water is a molecule" in problem


def test_where_systems_share_all_any_atoms_are_computed_so(tmp_path: Path) -> None:
    both = [
        system("water", WATER, arguments={"charge": -1}),
        system("oh", HYDROXIDE, arguments={"charge": -1.0}),
    ]
    frames = [molecule("CH4"), molecule("H2O"), bulk("C"), said(molecule("H2O"), "oh")]
    systems = found(tmp_path, frames, *both)
    # What a frame says that it is of makes no difference.
    assert systems.system_of == (0, 1, 2, 1)
    assert [one.arguments for one in systems.each] == [{"charge": -1}] * 3
    assert [one.name for one in systems.each] == ["", "water", ""]
    (note,) = systems.notes
    assert "frames 1,3: has the atoms of no system (water, oh): computed with charge = -1" in note
    plain = [system("water", WATER), system("oh", HYDROXIDE)]
    assert not found(tmp_path, frames, *plain).notes


def test_tags_follow_atoms_in_another_order(tmp_path: Path) -> None:
    field = "homogeneous_field 0 0 0.1\n"
    oh = system("oh", field + RADICAL, arguments={"charge": -1})
    turned = Atoms("HO", [[0, 0, 1], [0, 0, 0]])
    systems = found(tmp_path, [turned], system("water", WATER), oh)
    (one,) = systems.each
    assert one.arguments == {"charge": -1}
    assert one.structure.numbers.tolist() == [1, 8]
    assert one.structure.initial_moments.tolist() == [0.0, 1.0]
    assert one.geometry.species == ("H", "O")
    assert one.geometry.other_lines == ("homogeneous_field 0 0 0.1",)
    (note,) = systems.notes
    assert "frame 1: its atoms are in another order than those of oh" in note


def test_an_unknown_name_is_told_and_the_atoms_count(tmp_path: Path) -> None:
    water, oh = system("water", WATER), system("oh", HYDROXIDE, arguments={"charge": -1})
    systems = found(tmp_path, [said(molecule("H2O"), "ice"), molecule("H2O")], water, oh)
    assert [one.name for one in systems.each] == ["water"]
    (note,) = systems.notes
    assert (
        "frame 1: says system=ice, which is none of SYSTEMS that has its atoms: computed as water"
        in note
    )


def test_a_dimer_of_displaced_structures_is_not_taken_for_an_ion(tmp_path: Path) -> None:
    ion = system("ion", HYDROXIDE, arguments={"charge": -1})
    dimer = system("O-H_dimer", HYDROXIDE, moves=False, is_apart=True)
    plain = Atoms("OH", [[0, 0, 0], [0, 0, 1]])
    (problem,) = refused(tmp_path, [plain], ion, dimer)
    assert "could be of several systems (ion and O-H_dimer)" in problem
    systems = found(tmp_path, [said(plain, "ion")], ion, dimer)
    assert systems.each[0].arguments == {"charge": -1}


def settings_of(folder: Path, systems: Any) -> Settings:
    content = {
        "ACTIVE_LEARNING": {"reference_engine": "tblite"},
        **({} if systems is None else {"SYSTEMS": systems}),
    }
    (folder / "active_learning_settings.yaml").write_text(yaml.safe_dump(content))
    return read_settings(folder, needs_mace=False)


@pytest.mark.parametrize(
    ("systems", "expected"),
    [
        (None, False),
        ({"trajectories": 4}, False),
        ({"name": "water", "geometry": "geometry.in"}, False),
        ({"geometry": "water.in"}, True),
        ({"arguments": {"charge": 1}}, True),
        ({"control": "other.in"}, True),
        ([{"name": "a", "trajectories": 1}, {"name": "b", "trajectories": 1}], True),
    ],
)
def test_sections_that_say_what_is_computed(tmp_path: Path, systems: Any, expected: bool) -> None:
    assert are_described(settings_of(tmp_path, systems)) is expected


def test_systems_are_read_as_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "water.in").write_text(WATER)
    ase.io.write(tmp_path / "oh.xyz", [molecule("OH"), molecule("OH")])
    settings = settings_of(
        tmp_path,
        [
            {"name": "water", "geometry": "water.in"},
            {"name": "oh", "geometry": "oh.xyz", "arguments": {"charge": -1}},
        ],
    )
    inputs = read_run_systems(settings)
    assert inputs.names == ("water", "oh")
    assert inputs.each[1].arguments == {"charge": -1}
    # Only where its trajectories begin is of no concern here.
    systems = found(tmp_path, [molecule("OH")], *inputs.each)
    assert systems.each[0].starts == ()
