"""Builds a run from its settings and inputs: the one place that knows all the parts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache

from fhi_al.active_learning.added_systems import with_added_systems
from fhi_al.active_learning.final_test import canonical
from fhi_al.active_learning.initial_data import InitialData
from fhi_al.active_learning.progress import Progress
from fhi_al.active_learning.propagation import Dynamics
from fhi_al.active_learning.restart import Continuation
from fhi_al.active_learning.run import Report, Run
from fhi_al.active_learning.snapshot import SavedInputs
from fhi_al.active_learning.steps import Snapshots, Steps
from fhi_al.active_learning.training_rounds import TrainingRounds
from fhi_al.app import checks
from fhi_al.app.definition import Definition
from fhi_al.app.displaced import displaced_list
from fhi_al.app.exports import exporter, geometry_files
from fhi_al.app.fine_tuning import model_settings, replays
from fhi_al.app.initial_sampling import sampling_md
from fhi_al.app.label_supply import LabelSupply, wire_labels
from fhi_al.app.metrics import metrics
from fhi_al.app.needs import Needs
from fhi_al.app.options import loop_options, md_conditions
from fhi_al.app.process_set_up import Process
from fhi_al.app.rank_assignment import RankAssignment
from fhi_al.app.rank_work import WorkOfRanks
from fhi_al.app.replay import replay_structures
from fhi_al.app.report_page import ReportOfRun
from fhi_al.app.systems import input_files, sampling_table, shares, trajectory_table
from fhi_al.app.training import predictor, training_pool, training_rounds
from fhi_al.core.plausible import GeometryLimits
from fhi_al.engines.inputs import Inputs
from fhi_al.engines.registry import added_to_control
from fhi_al.md.conditions import MDConditions
from fhi_al.md.system import MDSystem
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.torch_set_up import torch_set_up
from fhi_al.process.soft_stop import SoftStop
from fhi_al.report.clock import Clock
from fhi_al.report.journal import Journal
from fhi_al.report.logs import library_log
from fhi_al.report.tables import Tables

log = logging.getLogger(__name__)

SETTINGS_FILES = ("mace_settings.yaml", "active_learning_settings.yaml")


@dataclass(frozen=True, eq=False)
class Assembled:
    """A run, and what ends it.

    Parameters
    ----------
    run : Run
    idle : callable
        Lines that say which rank had nothing to do, and how long.
    busy : callable
        The share of the time of this launch in which each rank had something to do.
    close : callable
        Ends what goes on in the background and gives everything back.
    report : ReportOfRun or None
        To be written when it is closed; None without a report.
    """

    run: Run
    idle: Callable[[], list[str]]
    busy: Callable[[], list[float]]
    close: Callable[[], None]
    report: ReportOfRun | None = None


def assemble(
    definition: Definition,
    process: Process,
    assignment: RankAssignment,
    before: Continuation | None,
    needs: Needs,
    initial_data: InitialData | None = None,
) -> Assembled:
    """Wire a run on rank 0 and continue from its snapshot, if there is one.

    Parameters
    ----------
    definition : Definition
        Checked by :mod:`fhi_al.app.checks`.
    process : Process
        Of rank 0; the other ranks serve.
    assignment : RankAssignment
        Who does what.
    before : Continuation or None
        What the run continues from.
    needs : Needs
        What the run still has to do.
    initial_data : InitialData or None
        What it still has to take in.

    Raises
    ------
    EngineError
        If the reference engine does not start.
    SnapshotError, LabelStoreError, ValueError
        If what is in ``restart/`` cannot be continued.
    """
    folder, settings = definition.folder, definition.settings
    mace = settings.mace
    assert mace is not None
    general = mace.general
    libraries = settings.resolve(general.log_dir) / f"{general.name_exp}_libraries.log"
    process.changes.enter_context(library_log(libraries))
    process.changes.enter_context(torch_set_up(assignment.threads))
    with ExitStack() as parts:
        of_run = ReportOfRun(folder) if settings.misc.report else None
        run, snapshots, work = _wire(definition, process, assignment, parts, needs, of_run)
        run = replace(run, initial_data=initial_data)
        snapshots.restore(before)
        if before is not None and before.added:
            _begin_again(run, definition, before)
        if not settings.al.parallel:
            # The record may be of a launch in which labels were computed in the background.
            run.completion_log.discard_rest()
        run.report.export.inputs(
            [folder / name for name in SETTINGS_FILES] + input_files(settings),
            {
                "mace_settings.yaml": settings.as_yaml("mace"),
                "active_learning_settings.yaml": settings.as_yaml("active_learning"),
                # As they are read; of a run from Python objects there is no file.
                **geometry_files(definition.inputs),
            },
        )
        if of_run is not None:
            parts.callback(of_run.keeps_activity(run, assignment.layout, work.seconds).close)
        tables = Tables(
            settings.resolve(general.results_dir),
            folder / "analysis" if settings.al.analysis else None,
        )
        parts.callback(tables.close)
        run.report.journal.listen(tables.add)
        curves = metrics(settings, folder)
        if curves is not None:
            parts.callback(curves.close)
            run.report.journal.listen(curves.add)
        return Assembled(run, work.idle, work.busy, parts.pop_all().close, of_run)


def _begin_again(run: Run, definition: Definition, before: Continuation) -> None:
    """For systems that were added to a finished run."""
    inputs = definition.inputs
    names = ", ".join(inputs.each[k].name for k in before.added)
    log.info("added to the run: %s; weights and labels stay, other trajectories are over", names)
    run.progress.live = []
    run.progress.state = with_added_systems(
        run.state,
        before.added,
        run.dynamics.assignments,
        len(inputs.each),
    )


def _wire(
    definition: Definition,
    process: Process,
    assignment: RankAssignment,
    parts: ExitStack,
    needs: Needs,
    of_run: ReportOfRun | None,
) -> tuple[Run, Snapshots, WorkOfRanks]:
    """The run as it begins, what writes its snapshots, and who is at work."""
    folder, settings, inputs = definition.folder, definition.settings, definition.inputs
    report = Report(
        Journal(folder / "restart" / "journal.jsonl"),
        Clock(),
        exporter(settings, folder),
        None if of_run is None else of_run.folder,
    )
    parts.callback(report.journal.close)
    soft_stop = SoftStop(folder, settings.misc.walltime_limit)
    process.changes.enter_context(soft_stop.listening())
    if needs.labels:
        for line in added_to_control(folder, settings, inputs):
            log.info("added to control.in: %s", line)
    supply = wire_labels(
        folder,
        settings,
        inputs,
        process.comm,
        assignment,
        report.clock,
        soft_stop,
        parts,
        computes=needs.labels,
    )
    seeds = report.export.seeds
    conditions = md_conditions(settings, definition.objects.integrator)
    replay = None
    if replays(settings):
        replay = replay_structures(settings, inputs, conditions[0], folder)
    ensemble = Ensemble(model_settings(settings, replay), checks.elements(inputs), seeds)
    pool = training_pool(ensemble, settings.al.valid_skip, process.comm, assignment)
    parts.callback(pool.close)
    progress = Progress()
    training = training_rounds(settings, inputs, ensemble, pool, progress, report, supply)
    snapshots = _snapshots(definition, assignment, progress, training, report, supply, of_run)
    limits = checks.geometry_limits(settings)
    md_systems = _md_systems(inputs, conditions, limits)
    predicting = predictor(ensemble, pool, settings.al.md_dtype)
    assignments = trajectory_table(settings, inputs)
    run = Run(
        folder=folder,
        options=loop_options(settings, folder, definition.objects.uncertainty),
        progress=progress,
        dynamics=Dynamics(inputs.systems, md_systems, predicting, assignments),
        final_dynamics=Dynamics(
            inputs.systems,
            _md_systems(inputs, [canonical(each) for each in conditions], limits),
            predicting,
            assignments,
        ),
        sampling_md=sampling_md(
            settings,
            sampling_table(settings, inputs),
            shares(settings, inputs),
            md_systems,
            supply.queue,
        ),
        displaced=displaced_list(settings, inputs, limits),
        labels=supply.queue,
        completion_log=supply.completion_log,
        training=training,
        steps=Steps(
            snapshots,
            soft_stop,
            settings.misc.snapshot_interval if settings.misc.create_restart else None,
        ),
        report=report,
    )
    return run, snapshots, WorkOfRanks(assignment.layout, report.clock, supply, pool)


def _snapshots(
    definition: Definition,
    assignment: RankAssignment,
    progress: Progress,
    training: TrainingRounds,
    report: Report,
    supply: LabelSupply,
    of_run: ReportOfRun | None,
) -> Snapshots:
    def written(files: dict[str, bytes]) -> None:
        report.export.checkpoints(training.ensemble, files)
        if of_run is not None and definition.settings.misc.report == "snapshots":
            of_run.after_snapshot()

    return Snapshots(
        definition.folder / "restart",
        SavedInputs(
            definition.inputs.systems,
            definition.inputs.names,
            definition.values(),
            assignment.threads,
        ),
        progress,
        training,
        supply.queue,
        supply.completion_log,
        report.journal,
        report.clock,
        written=written,
    )


def _md_systems(
    inputs: Inputs, conditions: Sequence[MDConditions], limits: GeometryLimits
) -> Callable[[int, int], MDSystem]:
    @cache
    def made(system: int, md: int) -> MDSystem:
        one = inputs.each[system]
        return MDSystem(one.structure, conditions[md], limits, one.name, one.starts)

    return made
