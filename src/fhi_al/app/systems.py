"""The systems of a run from its files: geometries, where trajectories start, control.in.

Owns how the section SYSTEMS becomes :class:`fhi_al.engines.inputs.Inputs`, and which trajectory has
which system, MD block and start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ase import Atoms

from fhi_al.app.file_patterns import is_pattern, matching_files
from fhi_al.app.same_system import differences
from fhi_al.app.structures import geometry_of
from fhi_al.core.assignment import Assignment, Conditions, assignments, one_of_each
from fhi_al.core.errors import InputError
from fhi_al.engines.aims_input.control import Control, read_control
from fhi_al.engines.aims_input.errors import AimsInputError
from fhi_al.engines.aims_input.geometry import Geometry, read_geometry
from fhi_al.engines.inputs import Inputs, SystemInput
from fhi_al.settings import Settings
from fhi_al.settings.md_blocks import md_blocks
from fhi_al.settings.systems import System, blocks_of, system_label, trajectory_counts


def read_systems(settings: Settings, *, needs_control: bool) -> Inputs:
    """Read the geometries of all systems, and control.in where the engine needs it.

    Raises
    ------
    InputError
        With the problems of all files.
    """
    problems: list[str] = []
    found: list[SystemInput] = []
    controls = _Controls(settings)
    for index, section in enumerate(settings.systems):
        control = None
        if needs_control:
            try:
                control = controls.of(section)
            except AimsInputError as error:
                if str(error) not in problems:  # of a file that several systems share
                    problems.append(str(error))
        try:
            geometries = _geometries(settings, index, control)
            if geometries:
                found.append(system_of(section, geometries, control))
        except (AimsInputError, InputError) as error:
            problems += error.problems if isinstance(error, InputError) else [str(error)]
    if problems:
        raise InputError(problems)
    return Inputs(tuple(found))


def input_files(settings: Settings) -> list[Path]:
    """The files that describe the systems: control.in and geometries, those that are there."""
    found = [settings.folder / "control.in"]
    for index, section in enumerate(settings.systems):
        if section.control is not None:
            found.append(settings.folder / section.control.expanduser())
        found += _files(settings, index)
    return list(dict.fromkeys(found))


class _Controls:
    """Reads every control.in once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._read: dict[Path, Control] = {}

    def of(self, section: System) -> Control:
        """A system's own, or the common one."""
        own = section.control
        path = self._settings.folder / "control.in" if own is None else self._settings.resolve(own)
        if path not in self._read:
            self._read[path] = read_control(path)
        return self._read[path]


def system_of(
    section: System, geometries: Sequence[Geometry], control: Control | None
) -> SystemInput:
    """A system that begins at geometries, at least one.

    Raises
    ------
    InputError
        If they differ in more than positions and cell.
    """
    first = geometries[0]
    problems = [
        f"{other.path}: is not of the same system as {first.path}: {'; '.join(unlike)}: expected"
        f" the same atoms in the same order in all starting geometries of system"
        f" {section.name or 'geometry'}, with the same species, initial moments and charges, fixed"
        " coordinates and other lines; positions and cell may differ. Make another system of it,"
        " with a block of its own in SYSTEMS, or take it out."
        for other in geometries[1:]
        if (unlike := differences(first, other))
    ]
    if problems:
        raise InputError(problems)
    starts = tuple((one.structure.positions, one.structure.cell) for one in geometries)
    return SystemInput(
        first,
        control,
        section.name or "",
        starts if len(starts) > 1 else (),
        dict(section.arguments),
    )


def _geometries(settings: Settings, index: int, control: Control | None) -> list[Geometry]:
    """The starting geometries of a system.

    Raises
    ------
    AimsInputError, InputError
        If there are none, or they cannot be read.
    """
    nuclei = control.nuclei if control else None
    return [
        geometry
        for path in _files(settings, index)
        for geometry in _geometries_of(path, nuclei, settings.folder)
    ]


def _files(settings: Settings, index: int) -> list[Path]:
    given = settings.systems[index].geometry
    if not is_pattern(str(given)):
        return [settings.folder / given.expanduser()]
    found = matching_files(settings, str(given))
    if not found:
        label = f"{system_label(settings.systems, index)}.geometry"
        message = "no file fits this pattern: expected at least one structure. Correct it"
        raise InputError([str(settings.problem("active_learning", label, message))])
    return found


def is_aims_format(path: Path) -> bool:
    """Whether a structure file is in FHI-aims' format, by its name."""
    return path.suffix == ".in" or path.name.startswith("geometry.in")


def _geometries_of(path: Path, nuclei: object, folder: Path) -> list[Geometry]:
    if is_aims_format(path):
        return [read_geometry(path, nuclei)]  # type: ignore[arg-type]
    # Late: ASE's readers take time to import.
    from ase.io import read

    shown = path.relative_to(folder) if path.is_relative_to(folder) else path
    try:
        frames = read(path, index=":")
    except Exception as error:  # of ASE's many readers
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise InputError(
            [
                f"{path}: cannot be read as a structure ({what}): expected FHI-aims' format in a"
                " file *.in, or a format that ASE knows by the file's name. Correct the file, or"
                " its name."
            ]
        ) from error
    several = len(frames) > 1
    return [
        replace(
            geometry_of(_bare(atoms), f"{shown}, frame {number}" if several else str(shown)),
            path=Path(f"{path}, frame {number}") if several else path,
        )
        for number, atoms in enumerate(frames)
    ]


def _bare(atoms: Atoms) -> Atoms:
    """Without results of a calculation: what was computed once is not what a label is."""
    copy = atoms.copy()
    copy.calc = None
    return copy


def conditions_of(settings: Settings, inputs: Inputs) -> list[Conditions]:
    """MD blocks and starts of each system that has trajectories."""
    blocks = md_blocks(settings.md)
    return [
        Conditions(system, blocks_of(section, blocks), max(1, len(inputs.each[system].starts)))
        for system, section in zip(inputs.moving_places, settings.systems, strict=True)
    ]


def trajectory_table(settings: Settings, inputs: Inputs) -> tuple[Assignment, ...]:
    """The trajectories of active learning."""
    counts = trajectory_counts(settings.systems, settings.al.num_trajectories)
    return assignments(conditions_of(settings, inputs), counts)


def sampling_table(settings: Settings, inputs: Inputs) -> tuple[Assignment, ...]:
    """The trajectories that sample the initial dataset."""
    return one_of_each(conditions_of(settings, inputs))


def shares(settings: Settings, inputs: Inputs) -> dict[int, float]:
    """System -> its share of the points of the initial dataset, of those with trajectories."""
    return {
        system: 1.0 if section.share is None else section.share
        for system, section in zip(inputs.moving_places, settings.systems, strict=True)
    }
