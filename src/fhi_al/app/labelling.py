"""Wire ``FHI_AL-label``: the structures of a file, the run's engine, a store of their own."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from fhi_al.app import checks
from fhi_al.app.cluster_checks import cluster_problems
from fhi_al.app.cluster_options import cluster_options
from fhi_al.app.label_supply import LabelPlace, LabelSupply, Surroundings, wire_queue
from fhi_al.app.labelled_file import compute_missing, remember, require_free, write_output
from fhi_al.app.open import closed_at_the_end
from fhi_al.app.process_set_up import Process
from fhi_al.app.selection import Selection, selected, selection
from fhi_al.app.structure_systems import (
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
from fhi_al.labels.label_file import LabelFile
from fhi_al.labels.records import Record, Rejected
from fhi_al.labels.store import LabelStore
from fhi_al.labels.structure_file import FileStructure, read_structures
from fhi_al.labels.validation import LabelRequest, LabelValidator
from fhi_al.parallel.layout import Layout, LayoutError, layout
from fhi_al.process.soft_stop import SoftStop
from fhi_al.report.clock import Clock
from fhi_al.report.logs import log_to_file, stop_log, terminal_log
from fhi_al.settings import Settings, read_settings
from fhi_al.settings.keys import FILE_NAMES
from fhi_al.storage.folder_lock import FolderLock

log = logging.getLogger(__name__)

FOLDER, LABELS, LOG = "labelled", "labels.jsonl", "label.log"
# Structures in the queue for each that can be computed at a time.
QUEUED = 2
# Engines that a process keeps: a file may hold a thousand systems, and models take memory.
MOST_OPEN = 8


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
    """

    file: Path
    output: Path | None = None
    n_selected: int | None = None
    model: Path | None = None
    stress: bool = False
    retry: bool = False


@dataclass(frozen=True, eq=False)
class _Work:
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


def compute(folder: Path, order: LabelOrder, process: Process) -> None:
    """On rank 0, the others serving: compute what has no result yet, and write the output.

    Raises
    ------
    SettingsError, InputError, FolderInUse, LabelStoreError
        If the inputs are wrong; nothing was run then.
    Stopped
        If asked to stop.
    EngineError
        If the engine is broken, or some structures have no label; the output is written then.
    """
    work = _read(folder, order)
    settings = work.settings
    ranks = _layout(settings, process)
    process.changes.enter_context(terminal_log("INFO"))
    with ExitStack() as outer:
        outer.enter_context(closing(FolderLock(work.state)))
        outer.callback(stop_log, log_to_file(work.state / LOG))
        for note in work.notes:
            log.warning("%s", note)
        for line in work.added_to_control():
            log.info("added to control.in: %s", line)
        for line in [*work.systems.described(), _layout_line(settings, ranks)]:
            log.info("%s", line)
        soft_stop = SoftStop(folder, settings.misc.walltime_limit)
        process.changes.enter_context(soft_stop.listening())
        # Of a launch that ended: here nothing depends on what arrived when.
        (work.state / "order.jsonl").unlink(missing_ok=True)
        around = Surroundings(process.comm, ranks, Clock(), soft_stop)
        parts = ExitStack()
        with closed_at_the_end(process, parts.close):
            supply = _supply(work, around, parts)
            _compute(work, order, supply, soft_stop, _n_workers(settings, ranks))


def _compute(
    work: _Work, order: LabelOrder, supply: LabelSupply, soft_stop: SoftStop, n_workers: int
) -> None:
    store = supply.queue.validator.store
    requests = work.requests(store)
    indices = list(range(len(requests)))
    if work.chosen is not None:
        keys = [request.key for request in requests]
        indices = selected(work.chosen, work.systems, keys, work.state)
    if order.retry:
        for key in {requests[k].key for k in indices}:
            if isinstance(store.get(key), Rejected):
                store.forget(key, "to be computed again (--retry)")
    # One system after the other, unless the most different ones come first.
    in_order = indices if work.chosen else sorted(indices, key=lambda k: requests[k].system)
    compute_missing([requests[k] for k in in_order], supply.queue, soft_stop, QUEUED * n_workers)
    remember(work.output, work.systems.path, work.state)
    of_file = sorted(indices)
    write_output(
        work.output,
        [work.systems.structures[k] for k in of_file],
        [requests[k] for k in of_file],
        store,
        stress=work.settings.computes_stress,
    )


def checked(folder: Path, order: LabelOrder, process: Process) -> list[str]:
    """What ``--check`` prints for inputs without problems.

    Raises
    ------
    SettingsError, InputError, LabelStoreError
        With all problems found.
    """
    work = _read(folder, order)
    known = LabelFile(work.state / LABELS, "", work.limits.name, ()).records
    keys = {request.key for request in work.requests(known)}
    n_known = sum(key in known for key in keys)
    n_chosen = len(keys)
    selecting: list[str] = []
    if work.chosen is not None:
        n_chosen = min(work.chosen.n_structures, len(work.systems.structures))
        selecting = [f"the {n_chosen} most different ones are computed"]
    return [
        work.settings.as_yaml("active_learning"),
        *(f"note: {note}" for note in work.notes),
        *(f"added to control.in: {line}" for line in work.added_to_control()),
        *work.systems.described(),
        f"{n_known} of {len(keys)} different structures have a result already",
        *selecting,
        f"output: {work.output}",
        _layout_checked(work.settings, process),
        "all inputs are in order; nothing was run",
    ]


def _read(folder: Path, order: LabelOrder) -> _Work:
    """Everything that can be known to be wrong before any calculation.

    Raises
    ------
    SettingsError, InputError
        With all problems found.
    """
    file = order.file.resolve()
    output = (order.output or folder / FOLDER / f"{file.stem}.xyz").resolve()
    settings = _settings(folder, order)
    problems = list(cluster_problems(settings))
    control, template, wrong_files = _inputs(folder, settings)
    problems += wrong_files
    systems, wrong_structures = _structures(file, settings, template, control)
    problems += wrong_structures
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
    return _Work(
        folder,
        output,
        settings,
        systems,
        [spec.in_folder(folder / FOLDER) for spec in specs],
        replace(checks.label_limits(settings), max_energy_per_atom=math.inf),
        chosen,
        list(notes_on_systems(folder, settings, systems, template)),
    )


def _settings(folder: Path, order: LabelOrder) -> Settings:
    """The settings; those of the models are not needed, but may ask for the stress."""
    has_models = (folder / FILE_NAMES["mace"]).is_file()
    settings = read_settings(folder, needs_mace=has_models)
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


def _structures(
    file: Path, settings: Settings, template: Geometry | None, control: Control | None
) -> tuple[FileSystems | None, list[str]]:
    """The structures of a file as systems, or what is wrong with them."""
    try:
        structures = read_structures(file)
    except ValueError as error:
        return None, [str(error)]
    # Atoms of a molecule that are far from each other can be computed as well.
    problems = structure_problems(structures, GeometryLimits(settings.al.min_distance, math.inf))
    if problems:
        return None, problems
    return systems_of(file, structures, template, control), []


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


def _supply(work: _Work, around: Surroundings, parts: ExitStack) -> LabelSupply:
    settings = work.settings
    # A name of a structure says which engine it is of: labels of several may be in one store.
    store = LabelStore(work.state / LABELS, "", work.limits.name)
    parts.callback(store.close)
    validator: Callable[..., LabelValidator] = partial(
        LabelValidator,
        work.systems.inputs.systems,
        store,
        limits=work.limits,
        e0_sums=[None] * len(work.specs),
        max_failures=settings.al.max_label_failures,
        wants_stress=settings.computes_stress,
        keeps_uncomputable=True,
    )
    place = LabelPlace(work.state, work.state / "cluster")
    return wire_queue(settings, work.specs, validator, place, around, parts, most_open=MOST_OPEN)


def _layout(settings: Settings, process: Process) -> Layout:
    """As in a run, but that nobody trains."""
    al = settings.al
    try:
        return layout(
            len(process.placements),
            parallel=al.parallel,
            training_ranks=1,
            reference_groups=al.reference_groups,
            shared_engine=registry.engine_kind(settings).calls_are_collective,
            elsewhere=al.cluster is not None,
        )
    except LayoutError as error:
        problem = settings.problem("active_learning", f"ACTIVE_LEARNING.{error.key}", str(error))
        raise InputError([str(problem)]) from error


def _layout_checked(settings: Settings, process: Process) -> str:
    try:
        return _layout_line(settings, _layout(settings, process))
    except InputError as error:
        if len(process.placements) > 1:
            raise
        return f"layout: this check has one rank, the launch needs more: {error}"


def _layout_line(settings: Settings, ranks: Layout) -> str:
    """Who computes."""
    if settings.al.cluster is not None:
        return f"layout: labels are jobs on a cluster ({settings.al.cluster.provider})"
    if ranks.groups:
        n_ranks = sum(map(len, ranks.groups))
        return f"layout: labels by {len(ranks.groups)} group(s) of {n_ranks} rank(s) in all"
    n_ranks = len(ranks.labelling)
    idle = ranks.n_ranks - n_ranks
    line = f"layout: labels one after the other, by {n_ranks} rank(s) together"
    if idle:
        line += f"; {idle} rank(s) have nothing to do: with parallel: true each would compute"
    return line


def _n_workers(settings: Settings, ranks: Layout) -> int:
    if settings.al.cluster is not None:
        return cluster_options(settings).most_jobs
    return max(1, len(ranks.groups))
