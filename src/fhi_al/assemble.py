"""From settings to wired objects: the one place that knows all the parts."""

from __future__ import annotations

import logging
import math
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from ase.calculators.calculator import BaseCalculator
from mpi4py import MPI

from fhi_al import preflight
from fhi_al.core.plausible import LabelLimits
from fhi_al.core.structure import Structure
from fhi_al.dataset import LabelStore
from fhi_al.md.driver import Driver, MDConditions
from fhi_al.md.reference_calculator import ReferenceCalculator
from fhi_al.models.calculator import EnsembleCalculator
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.foundation import foundation_calculator
from fhi_al.models.training import SerialTrainingPool
from fhi_al.procedures.continuing import Continuation
from fhi_al.procedures.run import Run
from fhi_al.reference.crash_trace import TRACES, CallRecord
from fhi_al.reference.label_pool import SerialLabelPool
from fhi_al.reference.service import EngineService
from fhi_al.reference.spec import fingerprint
from fhi_al.report import clock
from fhi_al.report.clock import Clock
from fhi_al.report.export import Exporter
from fhi_al.report.journal import Journal
from fhi_al.report.logs import log_libraries_to_file
from fhi_al.report.tables import Tables
from fhi_al.settings import MaceSettings, Settings
from fhi_al.soft_stop import SoftStop

log = logging.getLogger(__name__)

INPUT_FILES = ("control.in", "geometry.in", "mace_settings.yaml", "active_learning_settings.yaml")


def assemble(
    folder: Path,
    settings: Settings,
    inputs: preflight.Inputs,
    comm: MPI.Intracomm,
    found: Continuation | None,
) -> Run:
    """Wire a run on rank 0 and continue from its snapshot, if there is one.

    Parameters
    ----------
    folder : Path
        The run's folder, absolute.
    settings, inputs
        Checked by :mod:`fhi_al.preflight`.
    comm : communicator
        The private one; the other ranks serve.
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
        run = _wire(folder, settings, inputs, comm, export, parts)
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
    inputs: preflight.Inputs,
    comm: MPI.Intracomm,
    export: Exporter,
    parts: ExitStack,
) -> Run:
    al = settings.al
    systems = inputs.systems
    conditions = tuple(_conditions(settings))
    limits = preflight.geometry_limits(settings)
    stopwatch = Clock()
    soft_stop = SoftStop(folder, settings.misc.walltime_limit)
    specs = preflight.engine_specs(folder, settings, inputs)
    label_limits = LabelLimits(al.max_force, al.max_energy_per_atom)
    store = LabelStore(folder / "restart" / "labels.jsonl", fingerprint(specs), repr(label_limits))
    parts.callback(store.close)
    journal = Journal(folder / "restart" / "journal.jsonl")
    parts.callback(journal.close)
    for line in preflight.added_to_control(settings, inputs):
        log.info("added to control.in: %s", line)
    traces = folder / "restart" / TRACES
    service = EngineService(comm, specs, traces)
    calls = CallRecord(folder / "restart", service.last_words)
    parts.callback(calls.close)
    parts.callback(service.close)
    labels = SerialLabelPool(
        systems,
        service,
        store,
        calls,
        limits=label_limits,
        e0_sums=[_e0_sum(settings, system) for system in systems],
        max_failures=al.max_label_failures,
        timed=lambda: stopwatch.section(clock.DFT),
        before_each=soft_stop.check,
    )
    ensemble = Ensemble(settings.mace, preflight.elements(inputs), export.seeds)
    sampling = _SamplingDriver(settings, systems[0], conditions[0], labels)
    calculators: dict[int | None, EnsembleCalculator] = {}

    def driver(system: int, md: int, member: int | None) -> Driver:
        if member not in calculators:
            calculators[member] = EnsembleCalculator(ensemble, member)
        return Driver(systems[system], conditions[md], calculators[member], limits)

    return Run(
        folder=folder,
        settings=settings,
        systems=systems,
        conditions=conditions,
        store=store,
        labels=labels,
        ensemble=ensemble,
        training=SerialTrainingPool(ensemble, al.valid_skip),
        sampling_driver=sampling.at,
        driver=driver,
        journal=journal,
        clock=stopwatch,
        export=export,
        soft_stop=soft_stop,
        close=parts.close,
    )


def _e0_sum(settings: Settings, system: Structure) -> float | None:
    """Sum of the E0s that the user gave, in eV; None without any."""
    assert settings.mace is not None
    energies = settings.mace.architecture.atomic_energies
    if not energies:
        return None
    return math.fsum(energies[int(number)] for number in system.numbers)


class _SamplingDriver:
    """Makes the driver of the initial dataset's MD; loads a foundation model when first needed."""

    def __init__(
        self,
        settings: Settings,
        system: Structure,
        conditions: MDConditions,
        labels: SerialLabelPool,
    ) -> None:
        self._settings = settings
        self._system = system
        self._conditions = conditions
        self._labels = labels
        self._foundation: BaseCalculator | None = None

    def at(self, md_step: int) -> Driver:
        """The driver of a block that begins at an MD step."""
        limits = preflight.geometry_limits(self._settings)
        return Driver(self._system, self._conditions, self._calculator(md_step), limits)

    def _calculator(self, md_step: int) -> BaseCalculator:
        al, mace = self._settings.al, self._settings.mace
        if al.initial_sampling == "aimd":
            return ReferenceCalculator(self._labels, 0, md_step)
        assert mace is not None
        if self._foundation is None:
            self._foundation = foundation_calculator(
                preflight.foundation_settings(self._settings),
                device=mace.misc.device,
                dtype=mace.general.default_dtype,
            )
        return self._foundation


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
