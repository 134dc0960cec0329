"""What ``FHI_AL-label`` is asked for, and its inputs: read and checked before any calculation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fhi_al.app import checks
from fhi_al.app.cluster_checks import cluster_problems
from fhi_al.app.label.labelled_file import require_free
from fhi_al.app.label.run_systems import are_described, read_run_systems, systems_of_run
from fhi_al.app.label.selection import Selection, selection
from fhi_al.app.label.structure_systems import (
    FileSystems,
    notes_on_systems,
    structure_problems,
    system_problems,
    systems_of,
)
from fhi_al.core.errors import InputError
from fhi_al.core.label import Label, Origin
from fhi_al.core.plausible import GeometryLimits, LabelLimits
from fhi_al.engines import registry
from fhi_al.engines.aims_input.control import Control, read_control
from fhi_al.engines.aims_input.errors import AimsInputError
from fhi_al.engines.aims_input.geometry import Geometry, read_geometry
from fhi_al.engines.fingerprint import identity_number
from fhi_al.engines.spec import EngineSpec
from fhi_al.labels.records import Record
from fhi_al.labels.store import LabelStore
from fhi_al.labels.structure_file import FileStructure, read_structures
from fhi_al.labels.validation import LabelRequest
from fhi_al.settings import Settings, read_settings
from fhi_al.settings.keys import FILE_NAMES
from fhi_al.storage.folder_lock import require_no_file

FOLDER, LABELS = "labelled", "labels.jsonl"


@dataclass(frozen=True)
class LabelOrder:
    """What the command is asked for.

    Parameters
    ----------
    file : Path
        With the structures.
    output : Path or None
        None: ``labelled/NAME.xyz``, named as the file.
    n_selected : int or None
        The most different structures only.
    model : Path or None
        By whose descriptors.
    stress : bool
        Whatever the settings say.
    retry : bool
        Compute again what failed before.
    given : tuple of str
        Keys of the command line, ``SECTION.key=value``.
    """

    file: Path
    output: Path | None = None
    n_selected: int | None = None
    model: Path | None = None
    stress: bool = False
    retry: bool = False
    given: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class LabelWork:
    """What was read and checked: all in order."""

    folder: Path
    output: Path
    settings: Settings
    systems: FileSystems
    specs: list[EngineSpec]
    limits: LabelLimits
    chosen: Selection | None
    notes: list[str]

    @property
    def state(self) -> Path:
        """Folder of the store."""
        return self.folder / FOLDER

    def added_to_control(self) -> list[str]:
        """What is added to control.in."""
        return self.systems.by_frame(
            lambda inputs: registry.added_to_control(self.folder, self.settings, inputs)
        )

    def requests(self, known: Mapping[str, Record] | LabelStore) -> list[LabelRequest]:
        """One for each structure, in the order of the file."""
        # A label with a stress is a label without one, too.
        names = [
            dict.fromkeys(
                identity_number(spec, stress=stress) for stress in (spec.wants_stress, True)
            )
            for spec in self.specs
        ]
        return [
            _request(each, system, list(names[system]), known)
            for each, system in zip(self.systems.structures, self.systems.system_of, strict=True)
        ]


def read_label_work(folder: Path, order: LabelOrder) -> LabelWork:
    """Everything that can be known to be wrong before any calculation.

    Raises
    ------
    SettingsError, InputError
        With all problems found.
    """
    file = order.file.resolve()
    output = (order.output or folder / FOLDER / f"{file.stem}.xyz").resolve()
    settings = _settings(folder, order)
    for place in (folder / FOLDER, output.parent):
        require_no_file(place)
    problems = list(cluster_problems(folder, settings))
    structures, wrong_structures = _structures(file, settings)
    systems, wrong_files, wrong_systems = _systems(folder, settings, file, structures)
    problems += [*wrong_files, *wrong_structures, *wrong_systems]
    if systems is not None and not wrong_files:
        problems += system_problems(folder, settings, systems)
    if (
        systems is not None
        and order.stress
        and not any(geometry.structure.pbc for geometry in systems.geometries)
    ):
        problems.append(
            f"--stress: {file} holds molecules only, which have no stress: expected crystals."
            " Leave it out."
        )
    try:
        require_free(output, file, folder / FOLDER)
    except InputError as error:
        problems += error.problems
    if problems or systems is None:
        raise InputError(problems)
    chosen = selection(order.n_selected, order.model, settings, systems)
    specs = registry.engine_specs(folder, settings, systems.inputs)
    return LabelWork(
        folder,
        output,
        settings,
        systems,
        [spec.in_folder(folder / FOLDER) for spec in specs],
        replace(checks.label_limits(settings), max_energy_per_atom=math.inf),
        chosen,
        list(notes_on_systems(folder, settings, systems)),
    )


def _settings(folder: Path, order: LabelOrder) -> Settings:
    """The settings; those of the models are not needed, but may ask for the stress."""
    has_models = (folder / FILE_NAMES["mace"]).is_file()
    settings = read_settings(folder, needs_mace=has_models, given=order.given)
    return replace(settings, stress_option="--stress") if order.stress else settings


def _inputs(folder: Path, settings: Settings) -> tuple[Control | None, Geometry | None, list[str]]:
    """control.in if the engine needs it, geometry.in if it is there; what is wrong with them."""
    problems: list[str] = []
    control = template = None
    try:
        if registry.engine_kind(settings).needs_control:
            control = read_control(folder / "control.in")
    except AimsInputError as error:
        problems.append(str(error))
    try:
        if (folder / "geometry.in").is_file():
            template = read_geometry(folder / "geometry.in", control.nuclei if control else None)
    except AimsInputError as error:
        problems.append(str(error))
    return control, template, problems


def _structures(file: Path, settings: Settings) -> tuple[list[FileStructure] | None, list[str]]:
    """The structures of a file, or what is wrong with them."""
    try:
        structures = read_structures(file)
    except ValueError as error:
        return None, [str(error)]
    # Atoms of a molecule that are far from each other can be computed as well.
    problems = structure_problems(structures, GeometryLimits(settings.al.min_distance, math.inf))
    return (None, problems) if problems else (structures, [])


def _systems(
    folder: Path, settings: Settings, file: Path, structures: list[FileStructure] | None
) -> tuple[FileSystems | None, list[str], list[str]]:
    """The systems of structures; what is wrong with the run's files, and with the structures."""
    if not are_described(settings):
        control, template, problems = _inputs(folder, settings)
        systems = None if structures is None else systems_of(file, structures, template, control)
        return systems, problems, []
    try:
        inputs = read_run_systems(settings)
    except InputError as error:
        return None, error.problems, []
    if structures is None:
        return None, [], []
    found, wrong = systems_of_run(file, structures, inputs)
    return found, [], wrong


def _request(
    structure: FileStructure,
    system: int,
    names: Sequence[int],
    known: Mapping[str, Record] | LabelStore,
) -> LabelRequest:
    """By the first name, unless a label has another."""
    atoms = structure.atoms
    assert atoms is not None
    cell = np.array(atoms.cell) if atoms.pbc.all() else np.zeros((3, 3))
    origin = Origin("file", 0, structure.number)
    requests = [
        LabelRequest(system, np.array(atoms.positions), cell, origin, name) for name in names
    ]
    return next((r for r in requests if isinstance(known.get(r.key), Label)), requests[0])
