"""Which system of the run a structure of a file is of: whose control.in, arguments, tags hold.

Owns what is said of structures that are of none, or could be of several.  Runs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fhi_al.active_learning.imported_frames import lines_of
from fhi_al.active_learning.matching import ExpectedSystem, order_like, systems_with
from fhi_al.app.derived import some_atoms, with_derived
from fhi_al.app.label.structure_systems import (
    FileSystems,
    atoms_in,
    gathered,
    geometry_of_frame,
    says_more_than_positions,
)
from fhi_al.app.systems import read_systems
from fhi_al.engines import registry
from fhi_al.engines.aims_input.geometry import Geometry
from fhi_al.engines.fingerprint import plain
from fhi_al.engines.inputs import Inputs, SystemInput
from fhi_al.labels.labelled_frames import Frame
from fhi_al.labels.structure_file import FileStructure
from fhi_al.settings import Settings
from fhi_al.settings.systems import System

# Of a structure that no system has the atoms of.
NO_SYSTEM = -1
DIFFERENCES = "control.in, arguments, or what their geometries say besides positions"


def are_described(settings: Settings) -> bool:
    """Whether SYSTEMS says more of what is computed than geometry.in and control.in do."""
    usual = System()
    return len(settings.systems) > 1 or any(
        (one.geometry, one.control, one.arguments)
        != (usual.geometry, usual.control, usual.arguments)
        for one in settings.systems
    )


def read_run_systems(settings: Settings) -> Inputs:
    """The systems of SYSTEMS, and those of displaced structures.

    Raises
    ------
    InputError
        With the problems of all files.
    """
    kind = registry.engine_kind(settings)
    return with_derived(settings, read_systems(settings, needs_control=kind.needs_control))


def systems_of_run(
    path: Path, structures: Sequence[FileStructure], inputs: Inputs
) -> tuple[FileSystems | None, list[str]]:
    """The systems of structures without problems, for a run of the systems of SYSTEMS.

    A structure is of the system that its ``system`` names, else of the one that has its atoms.

    Parameters
    ----------
    path : Path
        Of the file.
    structures : sequence of FileStructure
    inputs : Inputs

    Returns
    -------
    FileSystems or None
    list of str
        Which structures could be of several systems or are of none, where that makes a difference.
    """
    matching = _Matching(path, inputs)
    found = [matching.matched(each) for each in structures]
    if matching.problems:
        return None, lines_of(matching.problems)
    matches = [each for each in found if each is not None]
    return gathered(path, structures, matches, lines_of(matching.notes)), []


class _Matching:
    """Matches structures one by one, and keeps what is to be said of them.

    Parameters
    ----------
    path : Path
        Of the file.
    inputs : Inputs

    Attributes
    ----------
    problems, notes : list of (Frame, str)
    """

    def __init__(self, path: Path, inputs: Inputs) -> None:
        self.problems: list[tuple[Frame, str]] = []
        self.notes: list[tuple[Frame, str]] = []
        self._path = path
        self._inputs = inputs
        self._expected = {
            place: ExpectedSystem(_name(one), one.structure)
            for place, one in enumerate(inputs.each)
        }
        of_each = [_content(one) for one in inputs.each]
        # The first place of each that is the same: systems that differ in MD only are one.
        self._kinds = [of_each.index(content) for content in of_each]
        self._share_all = len({_method(one) for one in self._inputs.moving}) == 1

    def matched(self, each: FileStructure) -> tuple[int, SystemInput] | None:
        """What the engine gets of a structure, and a number of its system; None: a problem."""
        frame = Frame(each.path, each.number, None)
        found = self._places(each)
        if isinstance(found, str):
            if self._share_all:
                return NO_SYSTEM, self._stranger(each, frame)
            why = f"{found}. Systems here ({self._names()}) differ in control.in or arguments"
            self.problems.append((frame, why))
            return None
        candidates = [self._as_one_of(each, k) for k in found]
        if len(found) > 1 and len({_content(one) for one in candidates}) > 1:
            names = " and ".join(self._expected[k].name for k in found)
            self.problems.append(
                (
                    frame,
                    f"could be of several systems ({names}), which differ in {DIFFERENCES}: "
                    "expected one. Say which with system=NAME in the frame",
                )
            )
            return None
        self._note(each, frame, found[0])
        return self._kinds[found[0]], candidates[0]

    def _places(self, each: FileStructure) -> list[int] | str:
        """The systems that a structure can be of, by name or by atoms; or why it is of none."""
        atoms, said = atoms_in(each), _said(each)
        every = self._expected
        named = {k: one for k, one in every.items() if said and self._inputs.names[k] == said}
        found = systems_with(atoms.numbers, bool(atoms.pbc.all()), named or every)
        if named and isinstance(found, str):
            if self._share_all:  # what it is called makes no difference
                return systems_with(atoms.numbers, bool(atoms.pbc.all()), every)
            return f"says system={said}: correct that if it is of another one; it {found}"
        return found

    def _as_one_of(self, each: FileStructure, place: int) -> SystemInput:
        one, atoms = self._inputs.each[place], atoms_in(each)
        geometry = geometry_of_frame(
            self._path, atoms, _in_order(one.geometry, np.asarray(atoms.numbers))
        )
        return replace(one, geometry=geometry, starts=())

    def _stranger(self, each: FileStructure, frame: Frame) -> SystemInput:
        """With what all systems share."""
        moving = self._inputs.moving
        first = moving[0]
        what = [f"{name} = {value}" for name, value in first.arguments.items()]
        what += [] if first.control is None else [str(first.control.path)]
        if first.arguments or any(says_more_than_positions(one.geometry) for one in moving):
            shared = f" with {', '.join(what)}," if what else ""
            self.notes.append(
                (
                    frame,
                    f"has the atoms of no system ({self._names()}): computed{shared} without"
                    " initial moments, charges and other lines of a system",
                )
            )
        geometry = geometry_of_frame(self._path, atoms_in(each))
        return SystemInput(geometry, first.control, arguments=first.arguments)

    def _note(self, each: FileStructure, frame: Frame, place: int) -> None:
        one, said = self._inputs.each[place], _said(each)
        matters = not self._share_all or says_more_than_positions(one.geometry)
        if said and matters and not any(one.name == said for one in self._alike(place)):
            self.notes.append(
                (
                    frame,
                    f"says system={said}, which is none of SYSTEMS that has its atoms: computed as"
                    f" {_name(one)}",
                )
            )
        is_sorted = not np.array_equal(one.structure.numbers, atoms_in(each).numbers)
        if is_sorted and says_more_than_positions(one.geometry):
            self.notes.append(
                (
                    frame,
                    f"its atoms are in another order than those of {_name(one)}, whose initial"
                    " moments, charges and lines they have, by element",
                )
            )

    def _alike(self, place: int) -> list[SystemInput]:
        """The systems that are the same as one."""
        kinds = zip(self._inputs.each, self._kinds, strict=True)
        return [one for one, kind in kinds if kind == self._kinds[place]]

    def _names(self) -> str:
        return ", ".join(each.name for each in self._expected.values())


def _said(each: FileStructure) -> str:
    """The name of the system that a structure says it is of; empty if it says nothing."""
    said = atoms_in(each).info.get("system")
    return "" if said is None else str(said)


def _name(one: SystemInput) -> str:
    return one.name or one.geometry.path.name


def _in_order(geometry: Geometry, numbers: NDArray[np.int64]) -> Geometry:
    """A geometry whose atoms are in the order of others: those of one element stay in theirs."""
    own = geometry.structure.numbers
    if np.array_equal(own, numbers):
        return geometry
    return some_atoms(geometry, order_like(own, numbers).tolist())


def _method(one: SystemInput) -> tuple[object, ...]:
    """What two systems of any atoms can share."""
    control = () if one.control is None else one.control.lines
    return control, json.dumps(plain(one.arguments), sort_keys=True), one.is_apart


def _content(one: SystemInput) -> tuple[object, ...]:
    """What decides the labels of a system: equal where these would be."""
    geometry, shape = one.geometry, one.structure
    return (
        *_method(one),
        geometry.species,
        geometry.atom_lines,
        geometry.vector_lines,
        geometry.other_lines,
        shape.pbc,
        *(a.tobytes() for a in (shape.numbers, shape.initial_moments, shape.initial_charges)),
    )
