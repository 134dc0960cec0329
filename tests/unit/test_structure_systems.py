"""Structures of a file as systems of an engine."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk, molecule

from fhi_al.app.label.structure_systems import FileSystems, structure_problems, systems_of
from fhi_al.core.plausible import GeometryLimits
from fhi_al.engines.aims_input.geometry import parse_geometry
from fhi_al.labels.structure_file import read_structures

RADICAL = """\
atom 0.0 0.0 0.0 O_up
    initial_moment 1.0
    initial_charge 0.0
atom 0.0 0.0 0.97 H
homogeneous_field 0.0 0.0 0.1
"""


def read(tmp_path: Path, frames: list[Atoms], geometry: str | None = None) -> FileSystems:
    path = tmp_path / "a.traj"
    ase.io.write(path, frames)
    template = None
    if geometry is not None:
        template = parse_geometry(geometry, Path("geometry.in"), {"O_up": 8})
    return systems_of(path, read_structures(path), template, None)


def test_a_system_is_elements_in_order_and_periodicity(tmp_path: Path) -> None:
    water, ammonia, diamond = molecule("H2O"), molecule("NH3"), bulk("C")
    other = water[[1, 0, 2]]
    boxed = molecule("H2O", vacuum=3.0)  # has a cell, but no period
    systems = read(tmp_path, [water, ammonia, diamond, other, boxed, ammonia])
    assert systems.system_of == (0, 1, 2, 3, 0, 1)
    assert systems.frames() == [[1, 5], [2, 6], [3], [4]]
    assert [g.structure.pbc for g in systems.geometries] == [False, False, True, False]
    (line,) = systems.described()
    assert line.endswith("6 structures: 3 H2O (molecule), 2 H3N (molecule), 1 C2 (crystal)")


def test_initial_moments_and_charges_make_another_system(tmp_path: Path) -> None:
    plain, triplet, ion = molecule("O2"), molecule("O2"), molecule("O2")
    plain.set_initial_magnetic_moments([0.0, 0.0])
    triplet.set_initial_magnetic_moments([1.0, 1.0])
    ion.set_initial_charges([1.0, 0.0])
    systems = read(tmp_path, [plain, triplet, ion, triplet])
    assert systems.system_of == (0, 1, 2, 1)
    assert systems.geometries[1].structure.initial_moments.tolist() == [1.0, 1.0]
    assert systems.geometries[2].structure.initial_charges.tolist() == [1.0, 0.0]


def test_structures_of_geometry_in_have_what_it_says_of_them(tmp_path: Path) -> None:
    radical, water = Atoms("OH", [[0, 0, 0], [0, 0, 1]]), molecule("H2O")
    own = radical.copy()
    own.set_initial_magnetic_moments([0.5, 0.0])
    systems = read(tmp_path, [radical, water, own], RADICAL)
    first, second, third = systems.geometries
    assert first.species == ("O_up", "H") and third.species == ("O_up", "H")
    assert first.structure.initial_moments.tolist() == [1.0, 0.0]
    assert first.other_lines == ("homogeneous_field 0.0 0.0 0.1",)
    # In the file's own geometry.
    assert first.structure.positions[1, 2] == 1.0
    # What the file says of the moments itself counts.
    assert third.structure.initial_moments.tolist() == [0.5, 0.0]
    assert first.atom_lines == third.atom_lines == (("initial_charge 0.0",), ())
    assert second.species == ("O", "H", "H") and second.other_lines == ()


def test_something_is_said_once_with_the_frames_that_it_is_about(tmp_path: Path) -> None:
    frames = [molecule("H2O"), molecule("NH3"), molecule("H2O"), bulk("C")]
    systems = read(tmp_path, frames)

    def about(inputs: object) -> list[str]:
        (geometry,) = inputs.geometries  # type: ignore[attr-defined]
        return ["of all", *(["of molecules"] if not geometry.structure.pbc else [])]

    assert systems.by_frame(about) == ["of all", f"{systems.path}: frames 1-3: of molecules"]


def test_overlapping_atoms_are_refused_and_distant_ones_are_not(tmp_path: Path) -> None:
    frames = [
        Atoms("H2", [[0, 0, 0], [0, 0, 0.1]]),
        Atoms("H2", [[0, 0, 0], [0, 0, 50.0]]),
        Atoms("H", [[0, 0, 0]]),
    ]
    path = tmp_path / "a.traj"
    ase.io.write(path, frames)
    (problem,) = structure_problems(read_structures(path), GeometryLimits(0.4, np.inf))
    assert problem.startswith(f"{path}: frame 1: atoms 1 and 2 overlap")
    assert "change min_distance" in problem
