"""Structures of a file as systems of an engine, and what is wrong with them, by frame.

A system is what an engine is built for: elements in their order, periodicity, initial moments and
charges, control.in, arguments.  A file may hold many.  Runs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms

from fhi_al.active_learning.imported_frames import MOST_SHOWN, lines_of
from fhi_al.app.work_ahead import formula
from fhi_al.core.plausible import GeometryLimits, geometry_problem
from fhi_al.core.structure import Structure, structure
from fhi_al.engines import registry
from fhi_al.engines.aims_input.control import Control
from fhi_al.engines.aims_input.geometry import Geometry
from fhi_al.engines.inputs import Inputs, SystemInput
from fhi_al.labels.labelled_frames import Frame
from fhi_al.labels.structure_file import FileStructure
from fhi_al.md.atoms import radii_of
from fhi_al.parallel.layout import ranges
from fhi_al.settings import Settings

OF_ATOMS = ("initial_moment", "initial_charge")


@dataclass(frozen=True, eq=False)
class FileSystems:
    """The systems of a file.

    Parameters
    ----------
    path : Path
    structures : tuple of FileStructure
        In the order of the file, none with a problem.
    each : tuple of SystemInput
        The systems, with the geometry of their first structure.
    system_of : tuple of int
        The system of each structure.
    notes : tuple of str
        What may not be meant.
    """

    path: Path
    structures: tuple[FileStructure, ...]
    each: tuple[SystemInput, ...]
    system_of: tuple[int, ...]
    notes: tuple[str, ...] = ()

    @property
    def inputs(self) -> Inputs:
        """All systems."""
        return Inputs(self.each)

    @property
    def geometries(self) -> tuple[Geometry, ...]:
        """Of each system."""
        return self.inputs.geometries

    def frames(self) -> list[list[int]]:
        """The frames that are of each system."""
        found: list[list[int]] = [[] for _ in range(max(self.system_of) + 1)]
        for each, system in zip(self.structures, self.system_of, strict=True):
            found[system].append(each.number)
        return found

    def by_frame(self, about: Callable[[Inputs], Iterable[str]]) -> list[str]:
        """What is to be said of each system, once, with the frames that it is about."""
        found: dict[str, list[int]] = {}
        for one, frames in zip(self.inputs.one_by_one(), self.frames(), strict=False):
            for text in about(one):
                found.setdefault(text, []).extend(frames)
        return [self._with_frames(text, sorted(frames)) for text, frames in found.items()]

    def _with_frames(self, text: str, frames: Sequence[int]) -> str:
        if len(frames) == len(self.structures):
            return text
        return f"{self.path}: {frames_of(frames)}: {text}"

    def described(self) -> list[str]:
        """Lines that say what there is."""
        names = [_named(one) for one in self.each]
        counts = dict.fromkeys(names, 0)
        for system in self.system_of:
            counts[names[system]] += 1
        shown = [f"{count} {name}" for name, count in counts.items()]
        more = f" and {len(shown) - MOST_SHOWN} more kinds" if len(shown) > MOST_SHOWN else ""
        total = f"{self.path}: {len(self.structures)} structures"
        return [f"{total}: {', '.join(shown[:MOST_SHOWN])}{more}"]


def systems_of(
    path: Path,
    structures: Sequence[FileStructure],
    template: Geometry | None,
    control: Control | None,
) -> FileSystems:
    """The systems of structures without problems, for a run of one system.

    Parameters
    ----------
    path : Path
        Of the file.
    structures : sequence of FileStructure
    template : Geometry or None
        The run's geometry.in: structures of the same atoms in the same order have its initial
        moments and charges, species and other lines, where the file has none of its own.
    control : Control or None
    """
    inputs = [
        SystemInput(geometry_of_frame(path, atoms_in(each), template), control)
        for each in structures
    ]
    notes: list[str] = []
    if template is not None and says_more_than_positions(template):
        strangers = [
            each.number
            for each, one in zip(structures, inputs, strict=True)
            if not _same_atoms(one.structure, template.structure)
        ]
        if strangers:
            notes.append(
                f"{path}: {frames_of(strangers)}: other atoms, or in another order, than in"
                f" {template.path}: computed without its initial moments, charges and other lines"
            )
    return gathered(path, structures, [(0, one) for one in inputs], notes)


def gathered(
    path: Path,
    structures: Sequence[FileStructure],
    inputs: Sequence[tuple[int, SystemInput]],
    notes: Sequence[str] = (),
) -> FileSystems:
    """The systems of structures, each once.

    Parameters
    ----------
    path : Path
        Of the file.
    structures : sequence of FileStructure
    inputs : sequence of (int, SystemInput)
        What the engine gets of each structure, and a number: equal where control.in, arguments and
        what the geometry says besides atoms, moments and charges are.
    notes : sequence of str
    """
    found: list[SystemInput] = []
    numbers: dict[tuple[object, ...], int] = {}
    system_of: list[int] = []
    for kind, one in inputs:
        shape = one.structure
        name = (
            kind,
            shape.numbers.tobytes(),
            shape.pbc,
            shape.initial_moments.tobytes(),
            shape.initial_charges.tobytes(),
        )
        if name not in numbers:
            numbers[name] = len(found)
            found.append(one)
        system_of.append(numbers[name])
    return FileSystems(path, tuple(structures), tuple(found), tuple(system_of), tuple(notes))


def atoms_in(each: FileStructure) -> Atoms:
    """Of a structure without problems."""
    assert each.atoms is not None
    return each.atoms


def geometry_of_frame(path: Path, atoms: Atoms, template: Geometry | None = None) -> Geometry:
    """What the engine gets of a structure that can be read.

    Parameters
    ----------
    path : Path
        What messages call it.
    atoms : Atoms
        Its charges and magnetic moments are the initial ones.
    template : Geometry or None
        As in :func:`systems_of`.
    """
    shape = structure(
        atoms.numbers,
        atoms.positions,
        np.array(atoms.cell) if atoms.pbc.all() else None,
        initial_moments=atoms.get_initial_magnetic_moments(),
        initial_charges=atoms.get_initial_charges(),
    )
    if template is None or not _same_atoms(shape, template.structure):
        symbols = tuple(atoms.get_chemical_symbols())
        return Geometry(path, shape, symbols, ((),) * len(atoms), ())
    theirs = template.structure
    has_moments, has_charges = atoms.has("initial_magmoms"), atoms.has("initial_charges")
    overruled = [
        name for name, given in zip(OF_ATOMS, (has_moments, has_charges), strict=True) if given
    ]
    return replace(
        template,
        path=path,
        structure=replace(
            shape,
            initial_moments=shape.initial_moments if has_moments else theirs.initial_moments,
            initial_charges=shape.initial_charges if has_charges else theirs.initial_charges,
        ),
        atom_lines=tuple(
            tuple(line for line in lines if line.split()[0] not in overruled)
            for lines in template.atom_lines
        ),
    )


def _same_atoms(one: Structure, other: Structure) -> bool:
    return one.pbc == other.pbc and np.array_equal(one.numbers, other.numbers)


def structure_problems(structures: Sequence[FileStructure], limits: GeometryLimits) -> list[str]:
    """What keeps structures from being computed, whatever the engine."""
    found: list[tuple[Frame, str]] = []
    for each in structures:
        frame = Frame(each.path, each.number, None)
        found += [(frame, problem) for problem in each.problems]
        if each.problems or each.atoms is None:
            continue
        shape = geometry_of_frame(each.path, each.atoms).structure
        problem = geometry_problem(shape.positions, shape.cell, shape.pbc, radii_of(shape), limits)
        if problem is not None:
            fix = "Correct or remove it, or change min_distance"
            found.append((frame, f"{problem}. {fix}"))
    return lines_of(found)


def system_problems(folder: Path, settings: Settings, systems: FileSystems) -> Iterator[str]:
    """What of the systems the engine cannot do, or not all of them in one launch."""
    others = _others_than_first(settings, systems)
    if others:
        yield others
        # The rest is about the one that is possible.
        systems = replace(systems, each=systems.each[:1])
    yield from systems.by_frame(lambda inputs: registry.engine_problems(folder, settings, inputs))


def _others_than_first(settings: Settings, systems: FileSystems) -> str | None:
    first, *others = (_named(one) for one in systems.each)
    if not others or not registry.one_system_per_process(settings):
        return None
    pairs = zip(systems.structures, systems.system_of, strict=True)
    frames = [each.number for each, system in pairs if system != 0]
    names = ", ".join(sorted(set(others)))
    if set(others) == {first}:
        what = "the atoms in another order, or with other initial moments or charges,"
    elif any(one.name for one in systems.each):
        what = f"other systems ({names})"
    else:
        what = f"other atoms ({names})"
    return (
        f"{systems.path}: {frames_of(frames)}: {what} than frame {systems.structures[0].number}"
        f" ({first}):"
        " expected one kind of system, for FHI-aims as a library knows one in a process. Put them"
        " into files of their own, each with a launch of its own, or set ACTIVE_LEARNING.cluster,"
        " with which each label has its own inputs."
    )


def _named(one: SystemInput) -> str:
    return f"{formula(one.geometry)}{f' of system {one.name}' if one.name else ''}"


def notes_on_systems(folder: Path, settings: Settings, systems: FileSystems) -> Iterator[str]:
    """What may not be meant, of structures that are in order."""
    yield from systems.by_frame(lambda inputs: registry.engine_notes(folder, settings, inputs))
    yield from systems.notes


def says_more_than_positions(template: Geometry) -> bool:
    """Whether a geometry has initial moments or charges, or lines of its own."""
    shape = template.structure
    lines = any(template.atom_lines) or any(template.vector_lines) or bool(template.other_lines)
    return bool(lines or shape.initial_moments.any() or shape.initial_charges.any())


def frames_of(numbers: Sequence[int]) -> str:
    """``frame 3`` or ``frames 1-3,7``."""
    return f"frame{'s' if len(numbers) > 1 else ''} {ranges(numbers)}"
