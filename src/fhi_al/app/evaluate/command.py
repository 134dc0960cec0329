"""Wire ``FHI_AL-evaluate``: models, what they are judged on, and where the results go."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from ase.data import chemical_symbols

from fhi_al.app import checks
from fhi_al.app.evaluate.checks import (
    ChecksWork,
    plan_checks,
    subjects_of_data,
    subjects_of_run,
)
from fhi_al.app.evaluate.data import EvaluatedData, read_data
from fhi_al.app.evaluate.errors import errors_on
from fhi_al.app.evaluate.md import MDWork, plan_md
from fhi_al.app.evaluate.md_run import structures_of_md
from fhi_al.app.evaluate.models import EvaluatedModels, read_models, run_settings
from fhi_al.app.evaluate.order import FOLDER, MD, USUAL_REFERENCE, EvaluateOrder
from fhi_al.app.evaluate.physics import Checks
from fhi_al.app.evaluate.reference import (
    EngineInputs,
    ReferenceCalculations,
    open_reference,
    read_engine_inputs,
)
from fhi_al.app.evaluate.report import Evaluation, Part
from fhi_al.app.label.command import layout_checked
from fhi_al.app.observation import watched
from fhi_al.app.open import closed_at_the_end
from fhi_al.app.process_set_up import Process
from fhi_al.core.errors import InputError
from fhi_al.labels.labelled_frames import LabelNames
from fhi_al.process.soft_stop import STOP_FILE, SoftStop
from fhi_al.report.clock import Clock
from fhi_al.report.command_status import CommandProgress, CommandStatusSource
from fhi_al.report.logs import log_to_file, stop_log, terminal_log
from fhi_al.report.status_file import Launch, StatusFile
from fhi_al.settings import Settings
from fhi_al.storage.atomic_file import write_atomically
from fhi_al.storage.folder_lock import FolderLock, require_no_file

log = logging.getLogger(__name__)

LOG, RESULTS, TABLE = "evaluate.log", "evaluation.json", "evaluation.txt"


@dataclass(frozen=True, eq=False)
class EvaluationWork:
    """What was read and checked: all in order.

    Parameters
    ----------
    order : EvaluateOrder
    state, output : Path
        Folders of what is kept between launches, and of the results.
    models : EvaluatedModels
    file : EvaluatedData or None
        Labels of a file.
    md : MDWork or None
        An MD that gives them.
    checks : ChecksWork or None
        Physical checks.
    engine : EngineInputs or None
        What the engine needs, if it may be asked.
    """

    order: EvaluateOrder
    state: Path
    output: Path
    models: EvaluatedModels
    file: EvaluatedData | None
    md: MDWork | None
    checks: ChecksWork | None
    engine: EngineInputs | None

    @property
    def needs_engine(self) -> bool:
        """Whether anything is to be computed by it."""
        of_checks = self.checks is not None and bool(self.checks.planned)
        return of_checks or (self.md is not None and not self.md.is_done)

    def described(self) -> list[str]:
        """Lines that say what is ahead."""
        lines = [
            f"{one.path}: {', '.join(chemical_symbols[z] for z in one.elements)}; cutoff"
            f" {one.r_max:g} A"
            for one in self.models.files
        ]
        if self.file is not None:
            lines += [f"note: {note}" for note in self.file.notes]
            lines.append(f"{self.file.source}: {len(self.file.structures)} labelled structures")
        if self.engine is not None:
            lines += [f"note: {note}" for note in self.engine.notes]
        for part in (self.md, self.checks):
            lines += [] if part is None else part.described()
        return [*lines, f"output: {self.output}"]


def evaluate(
    folder: Path,
    order: EvaluateOrder,
    process: Process,
    *,
    quiet: bool,
    bars: bool | None = False,
) -> Evaluation:
    """On rank 0, the others serving: judge models, and write what was found.

    Parameters
    ----------
    folder : Path
        Of the run, if there is one.
    order : EvaluateOrder
    process : Process
    quiet : bool
        Log to the file only: standard output is for the results.
    bars : bool or None
        Whether standard output shows progress bars, unless it is quiet; None: where it is a
        terminal.

    Raises
    ------
    SettingsError, InputError, FolderInUse, LabelStoreError
        If the inputs are wrong; nothing was run then.
    Stopped
        If asked to stop.
    EngineError
        If the engine is broken.
    """
    # Imported here: torch takes seconds, and wrong settings are found without.
    from fhi_al.models.torch_set_up import torch_set_up

    settings = run_settings(folder, order.given)
    process.changes.enter_context(torch_set_up())
    work = read_evaluation(folder, order, settings)
    soft_stop = SoftStop(work.state, settings.misc.walltime_limit if settings else None)
    with ExitStack() as outer:
        outer.enter_context(closing(FolderLock(work.state, work.state / STOP_FILE)))
        if not quiet:
            process.changes.enter_context(terminal_log("INFO"))
        outer.callback(stop_log, log_to_file(work.output / LOG))
        process.changes.enter_context(soft_stop.listening())
        for line in work.described():
            log.info("%s", line)
        parts, clock, progress = ExitStack(), Clock(), CommandProgress()
        with closed_at_the_end(process, parts.close):
            opened = None
            if work.needs_engine and work.engine is not None:
                opened = open_reference(work.engine, process, soft_stop, clock, parts)
            source = CommandStatusSource(
                progress,
                clock,
                lambda: () if opened is None else opened.calculations.store,
                lambda: () if opened is None else opened.ranks(),
            )
            launch = Launch("FHI_AL-evaluate", _named(order), len(process.placements), time.time())
            file, ending = StatusFile(work.state, launch), f"results are in {work.output}"
            with watched(source.status, file, False if quiet else bars, lambda: ending):
                reference = None if opened is None else opened.calculations
                found = _judged(work, reference, soft_stop, progress)
    return Evaluation([*found.lines, "", f"written to {work.output}"], found.values)


def _named(order: EvaluateOrder) -> str:
    """What is done, in a few words."""
    on = [] if order.on is None else [f"on {Path(order.on).name}"]
    return ", ".join([*on, *(["checks"] if order.checks.names else [])])


def checked(folder: Path, order: EvaluateOrder, process: Process) -> list[str]:
    """What ``--check`` prints for inputs without problems.

    Raises
    ------
    SettingsError, InputError
        With all problems found.
    """
    work = read_evaluation(folder, order, run_settings(folder, order.given))
    lines = work.described()
    if work.needs_engine and work.engine is not None:
        lines.append(layout_checked(work.engine.settings, process))
    return [*lines, "all inputs are in order; nothing was run"]


def read_evaluation(
    folder: Path, order: EvaluateOrder, settings: Settings | None
) -> EvaluationWork:
    """Everything that can be known to be wrong before any calculation.

    Parameters
    ----------
    folder : Path
        Of the run, if there is one.
    order : EvaluateOrder
    settings : Settings or None
        Of that run.

    Raises
    ------
    InputError
        With all problems found.
    """
    _require_sense(order)
    state = folder / FOLDER
    output = (order.output or state).resolve()
    for place in (state, output):
        require_no_file(place)
    models = read_models(folder, order, settings)
    n_allowed = order.checks.reference
    if n_allowed is None:
        n_allowed = USUAL_REFERENCE if order.on == MD else 0
    file = md = engine = None
    if order.on == MD or (order.checks.names and n_allowed):
        engine = read_engine_inputs(folder, state, settings)
    if order.on == MD and engine is not None:
        md = plan_md(engine, order.md, models)
    elif order.on is not None:
        given = "--energy, --forces or --stress"
        names = LabelNames(order.energy, order.forces, order.stress, given)
        file = read_data(Path(order.on).resolve(), names, models)
    planned = None
    if order.checks.names:
        planned = _checks(order, settings, file, models, n_allowed)
    return EvaluationWork(order, state, output, models, file, md, planned, engine)


def _require_sense(order: EvaluateOrder) -> None:
    problems = []
    if order.on is None and not order.checks.names:
        problems.append("--on: expected a file with labels, or md. Give --on FILE, or --checks.")
    if not order.checks.time_ps > 0:
        problems.append(f"--md-time {order.checks.time_ps:g}: expected more than 0.")
    if order.n_worst < 0 or (order.checks.reference or 0) < 0:
        problems.append("--worst and --reference: expected 0 or more.")
    if problems:
        raise InputError(problems)


def _checks(
    order: EvaluateOrder,
    settings: Settings | None,
    file: EvaluatedData | None,
    models: EvaluatedModels,
    n_allowed: int,
) -> ChecksWork:
    if settings is not None:
        subjects = subjects_of_run(settings, checks.read_inputs(settings))
    elif file is not None:
        subjects = subjects_of_data(file)
    else:
        raise InputError(
            [
                "--checks: expected systems to look at. Give --workdir DIR of a run, or --on FILE"
                " with structures."
            ]
        )
    for one in subjects:
        missing = models.missing(one.structure.numbers)
        if missing:
            raise InputError(
                [
                    f"{one.name}: has {', '.join(missing)}, which not every model knows: expected"
                    " models of all its elements. Take others, or another --workdir."
                ]
            )
    temperatures = order.md.temperatures
    return plan_checks(order.checks, subjects, temperatures, n_allowed, has_md=order.on == MD)


def _judged(
    work: EvaluationWork,
    reference: ReferenceCalculations | None,
    soft_stop: SoftStop,
    progress: CommandProgress,
) -> Evaluation:
    """Everything that is found, which is written part by part."""
    made: list[Part] = []
    found = Evaluation.of(made)
    for part in _parts(work, reference, soft_stop, progress):
        made.append(part)
        found = Evaluation.of(made)
        # Before the next part: an engine that fails in a check takes no errors away.
        write_atomically(work.output / RESULTS, found.as_json() + "\n")
        write_atomically(work.output / TABLE, "\n".join(found.lines) + "\n")
    return found


def _parts(
    work: EvaluationWork,
    reference: ReferenceCalculations | None,
    soft_stop: SoftStop,
    progress: CommandProgress,
) -> Iterator[Part]:
    """Errors on labelled structures, then the checks."""
    data = work.file
    if work.md is not None:
        data = structures_of_md(work.md, None if work.md.is_done else reference, progress)
    if data is not None:
        n_worst = work.order.n_worst
        yield errors_on(work.models, data, work.output, n_worst, soft_stop.check, progress)
    if work.checks is not None:
        order, seed = work.order.checks, work.order.md.seed
        looked = Checks(work.checks, order, work.models, reference, seed, soft_stop.check)
        yield looked.run(work.output, work.md, data, progress)
