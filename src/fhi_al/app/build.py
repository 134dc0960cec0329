"""From settings to wired objects: the one place that knows all the parts."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from mpi4py import MPI

from fhi_al.active_learning.restart import Continuation
from fhi_al.active_learning.run import Run
from fhi_al.app import checks
from fhi_al.app.initial_sampling import SamplingDriver
from fhi_al.app.label_supply import wire_labels
from fhi_al.app.rank_assignment import RankAssignment
from fhi_al.labels.background_queue import BackgroundLabelQueue
from fhi_al.md.driver import Driver
from fhi_al.md.integrators import MDConditions
from fhi_al.md.together import BatchedForceCalculator
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.predictor import Predictor
from fhi_al.models.remote.model_copies import predictor_of
from fhi_al.models.remote.prediction import RemotePredictor
from fhi_al.models.remote.training import RemoteTrainingPool, TrainingPlacement
from fhi_al.models.training import SerialTrainingPool, TrainingPool
from fhi_al.process.soft_stop import SoftStop
from fhi_al.report import clock
from fhi_al.report.clock import Clock
from fhi_al.report.export import Exporter
from fhi_al.report.journal import Journal
from fhi_al.report.logs import log_libraries_to_file
from fhi_al.report.summary import idle_shares
from fhi_al.report.tables import Tables
from fhi_al.settings import MaceSettings, Settings

log = logging.getLogger(__name__)

INPUT_FILES = ("control.in", "geometry.in", "mace_settings.yaml", "active_learning_settings.yaml")


def assemble(
    folder: Path,
    settings: Settings,
    inputs: checks.Inputs,
    comm: MPI.Intracomm,
    assignment: RankAssignment,
    found: Continuation | None,
) -> Run:
    """Wire a run on rank 0 and continue from its snapshot, if there is one.

    Parameters
    ----------
    folder : Path
        The run's folder, absolute.
    settings, inputs
        Checked by :mod:`fhi_al.app.checks`.
    comm : communicator
        The private one; the other ranks serve.
    assignment : Crew
        Who does what.
    found : Continuation or None
        What the run continues from.

    Raises
    ------
    EngineError
        If the reference engine does not start.
    SnapshotError, LabelStoreError, ValueError
        If what is in ``restart/`` cannot be continued.
    """
    mace = settings.mace
    assert mace is not None
    general = mace.general
    log_libraries_to_file(settings.resolve(general.log_dir) / f"{general.name_exp}_libraries.log")
    seeds = member_seeds(general.seed, settings.al.ensemble_size)
    export = _exporter(settings, mace, folder, seeds)
    with ExitStack() as parts:
        run = _wire(folder, settings, inputs, comm, assignment, export, parts)
        run.restore(found)
        export.inputs(
            [folder / name for name in INPUT_FILES],
            {
                "mace_settings.yaml": settings.as_yaml("mace"),
                "active_learning_settings.yaml": settings.as_yaml("active_learning"),
            },
        )
        tables = Tables(
            settings.resolve(general.results_dir),
            folder / "analysis" if settings.al.analysis else None,
        )
        parts.callback(tables.close)
        run.journal.listen(tables.add)
        run.close = parts.pop_all().close
    return run


def member_seeds(seed: int, n_members: int) -> tuple[int, ...]:
    """One seed per member, from GENERAL.seed; more members leave those of the first as they are."""
    return tuple(
        int(np.random.SeedSequence([seed, index]).generate_state(1)[0])
        for index in range(n_members)
    )


def _wire(
    folder: Path,
    settings: Settings,
    inputs: checks.Inputs,
    comm: MPI.Intracomm,
    assignment: RankAssignment,
    export: Exporter,
    parts: ExitStack,
) -> Run:
    al = settings.al
    systems = inputs.systems
    conditions = tuple(_conditions(settings))
    limits = checks.geometry_limits(settings)
    stopwatch = Clock()
    soft_stop = SoftStop(folder, settings.misc.walltime_limit)
    journal = Journal(folder / "restart" / "journal.jsonl")
    parts.callback(journal.close)
    for line in checks.added_to_control(settings, inputs):
        log.info("added to control.in: %s", line)
    supply = wire_labels(folder, settings, inputs, comm, assignment, stopwatch, soft_stop, parts)
    labels = supply.queue
    ensemble = Ensemble(settings.mace, checks.elements(inputs), export.seeds, assignment.threads)
    sampling = SamplingDriver(settings, systems[0], conditions[0], labels)
    drivers = {
        (system, md): Driver(systems[system], conditions[md], BatchedForceCalculator(), limits)
        for system in range(len(systems))
        for md in range(len(conditions))
    }
    training = _training_pool(ensemble, al.valid_skip, comm, assignment)
    parts.callback(training.close)

    def idle() -> list[str]:
        seconds = stopwatch.in_this_launch()
        wall_s = sum(seconds.values())
        driving_s = wall_s - seconds[clock.WAITING]
        others = [supply.busy_seconds(), training.busy_seconds()]
        return idle_shares(assignment.layout, wall_s, driving_s, others)

    run = Run(
        folder=folder,
        settings=settings,
        systems=systems,
        conditions=conditions,
        store=supply.queue.validator.store,
        labels=labels,
        ensemble=ensemble,
        training=training,
        sampling_driver=sampling.at,
        driver=lambda system, md: drivers[system, md],
        predictor=_predictor(ensemble, training, comm, al.md_dtype),
        completion_log=supply.completion_log,
        journal=journal,
        clock=stopwatch,
        export=export,
        soft_stop=soft_stop,
        threads=assignment.threads,
        idle=idle,
        close=parts.close,
    )
    if isinstance(labels, BackgroundLabelQueue):
        labels.while_waiting = run.advance_background
    return run


def _training_pool(
    ensemble: Ensemble, valid_skip: int, comm: MPI.Intracomm, assignment: RankAssignment
) -> TrainingPool:
    ranks = assignment.layout.training
    if ranks == (0,):
        return SerialTrainingPool(ensemble, valid_skip)
    placements = {
        rank: TrainingPlacement(assignment.threads, assignment.local_index(rank))
        for rank in ranks
        if rank != 0
    }
    pool = RemoteTrainingPool(ensemble, valid_skip, comm, ranks, placements)
    pool.set_up()
    return pool


def _predictor(
    ensemble: Ensemble, training: TrainingPool, comm: MPI.Intracomm, precision: str
) -> Predictor:
    """Of MD: on the ranks that train, where there are several."""
    same = ensemble.factory.settings.general.default_dtype
    dtype = same if precision == "training" else precision
    local = ensemble if dtype == same else predictor_of(ensemble, dtype)
    if isinstance(training, RemoteTrainingPool):
        return RemotePredictor(ensemble, local, dtype, comm, training)
    return local


def _exporter(
    settings: Settings, mace: MaceSettings, folder: Path, seeds: tuple[int, ...]
) -> Exporter:
    return Exporter(
        name=mace.general.name_exp,
        seeds=seeds,
        dataset_folder=settings.resolve(settings.al.dataset_dir),
        model_folder=settings.resolve(mace.general.model_dir),
        checkpoint_folder=settings.resolve(mace.general.checkpoints_dir),
        inputs_folder=folder / "inputs",
        keep_checkpoints=mace.misc.keep_checkpoints,
    )


def _conditions(settings: Settings) -> list[MDConditions]:
    return [
        MDConditions(
            thermostat=None if md.stat_ensemble == "NVE" else md.thermostat,
            temperature=md.temperature,
            timestep=md.timestep,
            friction=md.friction,
            thermostat_time=md.thermostat_time,
            andersen_prob=md.andersen_prob,
            seed=md.seed,
        )
        for md in settings.md
    ]
