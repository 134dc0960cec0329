"""Where the labels of a run come from: engine, validation, store, queue, wired by the settings."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mpi4py import MPI

from fhi_al.app import checks
from fhi_al.app.cluster_options import cluster_options
from fhi_al.app.rank_assignment import RankAssignment
from fhi_al.core.structure import Structure
from fhi_al.engines import registry
from fhi_al.engines.fingerprint import Fingerprint, fingerprint
from fhi_al.engines.spec import EngineSpec
from fhi_al.labels import label_file
from fhi_al.labels.background_queue import BackgroundLabelQueue
from fhi_al.labels.cluster.cluster import ClusterWorkers
from fhi_al.labels.completion_log import CompletionLog
from fhi_al.labels.crash_trace import CallRecord
from fhi_al.labels.engine_service import EngineService
from fhi_al.labels.mpi_workers import EngineGroups, OwnWorker, last_output, specs_of_group
from fhi_al.labels.older_fingerprints import with_older_names, write_down
from fhi_al.labels.serial_queue import SerialLabelQueue
from fhi_al.labels.store import LabelStore
from fhi_al.labels.validation import LabelValidator
from fhi_al.labels.without_stress import without_stress
from fhi_al.labels.workers import Workers
from fhi_al.parallel.layout import Layout
from fhi_al.process.soft_stop import SoftStop
from fhi_al.report import clock
from fhi_al.report.clock import Clock
from fhi_al.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LabelSupply:
    """The label queue of a run, the order of its events, and who is at work for it.

    Parameters
    ----------
    queue : SerialLabelQueue or BackgroundLabelQueue
    completion_log : CompletionLog
    busy_seconds : callable
        Rank -> seconds it has spent on labels in this launch.
    """

    queue: SerialLabelQueue | BackgroundLabelQueue
    completion_log: CompletionLog
    busy_seconds: Callable[[], dict[int, float]]


@dataclass(frozen=True)
class LabelPlace:
    """Where labels are kept.

    Parameters
    ----------
    state : Path
        Folder of what tells of calculations under way.
    cluster : Path
        Folder of the jobs, with ``cluster``.
    """

    state: Path
    cluster: Path


@dataclass(frozen=True, eq=False)
class Surroundings:
    """The process around the labels: its ranks, what each does, its clock, requests to stop."""

    comm: MPI.Intracomm
    layout: Layout
    stopwatch: Clock
    soft_stop: SoftStop


def wire_labels(
    folder: Path,
    settings: Settings,
    inputs: checks.Inputs,
    comm: MPI.Intracomm,
    assignment: RankAssignment,
    stopwatch: Clock,
    soft_stop: SoftStop,
    parts: ExitStack,
    *,
    computes: bool = True,
) -> LabelSupply:
    """Wire the label queue; what has to be closed goes to ``parts``.

    Without ``computes`` the run needs no new label: its queue has no engine, and nothing that an
    engine would need is looked for.

    Raises
    ------
    LabelStoreError
        If the labels in ``restart/`` cannot be used.
    """
    al, restart = settings.al, folder / "restart"
    specs = registry.engine_specs(folder, settings, inputs) if computes else []
    limits = checks.label_limits(settings)
    store = _store(restart, _engines(restart, specs, inputs) if computes else None, limits.name)
    parts.callback(store.close)
    if settings.computes_stress and (lacking := without_stress(store)):
        log.warning("%s: %s", store.path, lacking)
    validator = partial(
        LabelValidator,
        inputs.systems,
        store,
        limits=limits,
        e0_sums=[_e0_sum(settings, system) for system in inputs.systems],
        max_failures=al.max_label_failures,
        wants_stress=settings.computes_stress,
    )
    place = LabelPlace(restart, folder / "cluster")
    around = Surroundings(comm, assignment.layout, stopwatch, soft_stop)
    return wire_queue(settings, specs, validator, place, around, parts, computes=computes)


def wire_queue(
    settings: Settings,
    specs: Sequence[EngineSpec],
    validator_with: Callable[..., LabelValidator],
    place: LabelPlace,
    around: Surroundings,
    parts: ExitStack,
    *,
    computes: bool = True,
    most_open: int | None = None,
) -> LabelSupply:
    """Wire the queue of labels; what has to be closed goes to ``parts``.

    Parameters
    ----------
    settings : Settings
    specs : sequence of EngineSpec
        One per system.
    validator_with : callable
        Makes the validator, given the keyword ``last_output``.
    place : LabelPlace
    around : Surroundings
    parts : ExitStack
    computes : bool
        Whether the engine is there.
    most_open : int or None
        Engines of systems that are kept at a time.
    """
    comm, layout, stopwatch = around.comm, around.layout, around.stopwatch
    cluster: ClusterWorkers | None = None
    if computes and settings.al.cluster is not None:
        cluster = ClusterWorkers(specs, cluster_options(settings), place.cluster)
    completion_log = CompletionLog(place.state / "order.jsonl")
    parts.callback(completion_log.close)
    output = partial(_last_output, cluster, specs, max(1, len(layout.groups)))
    calls = CallRecord(place.state, output)
    parts.callback(calls.close)
    validator = validator_with(last_output=output)
    queue: SerialLabelQueue | BackgroundLabelQueue
    if settings.al.parallel and computes:
        workers: Workers | None = cluster
        if workers is None:
            workers = _workers(around, specs, calls, most_open)
        busy_seconds = workers.busy_seconds
        queue = BackgroundLabelQueue(
            validator,
            workers,
            completion_log,
            waiting=lambda: stopwatch.section(clock.WAITING),
            check_stop=around.soft_stop.check,
        )
    else:
        busy_seconds = partial(_dft_seconds, layout, stopwatch)
        queue = SerialLabelQueue(
            validator,
            EngineService(comm, specs, calls.traces, most_open=most_open),
            calls,
            timed=lambda: stopwatch.section(clock.DFT),
            before_each=around.soft_stop.check,
        )
    parts.callback(queue.close)
    return LabelSupply(queue, completion_log, busy_seconds)


def _last_output(cluster: ClusterWorkers | None, specs: Sequence[EngineSpec], n_groups: int) -> str:
    """The last lines that an engine wrote."""
    if cluster is not None:
        return cluster.last_output()
    return last_output([s for k in range(n_groups) for s in specs_of_group(specs, k, n_groups)])


def _workers(
    around: Surroundings, specs: Sequence[EngineSpec], calls: CallRecord, most_open: int | None
) -> Workers:
    """Groups of other ranks that compute in the background; rank 0 where there are none."""
    if around.layout.groups:
        layout = around.layout
        return EngineGroups(around.comm, specs, layout.groups, calls, most_open, layout.only_system)
    alone = EngineService(around.comm, specs, calls.traces, alone=True, most_open=most_open)
    return OwnWorker(alone, calls, lambda: around.stopwatch.section(clock.DFT))


def _dft_seconds(layout: Layout, stopwatch: Clock) -> dict[int, float]:
    """Of the ranks that compute all labels together."""
    return dict.fromkeys(layout.labelling, stopwatch.in_this_launch()[clock.DFT])


def require_same_engines(folder: Path, settings: Settings, inputs: checks.Inputs) -> str | None:
    """Return if the engine of each system is that of its labels in a run's folder; changes nothing.

    Returns
    -------
    str or None
        What is to be known of labels that have no stress though the run asks for it.

    Raises
    ------
    LabelStoreError
        As the run itself would.
    """
    restart = folder / "restart"
    engines = _engines(restart, registry.engine_specs(folder, settings, inputs), inputs)
    found = label_file.require_same_engines(restart / "labels.jsonl", engines)
    return without_stress(found) if settings.computes_stress else None


def _engines(
    restart: Path, specs: Sequence[EngineSpec], inputs: checks.Inputs
) -> tuple[Fingerprint, ...]:
    """Of each system, with all that older programs may have called it."""
    return tuple(
        with_older_names(restart, fingerprint(spec, name))
        for spec, name in zip(specs, inputs.names, strict=True)
    )


def _store(restart: Path, engines: Sequence[Fingerprint] | None, limits: str) -> LabelStore:
    opened = LabelStore(restart / "labels.jsonl", engines, limits)
    if engines is not None and write_down(restart, opened.older_found):
        found = set(opened.older_found.values())
        notes = [each.older_note for each in engines if each.value in found]
        for note in dict.fromkeys(notes):
            if note:
                log.warning("%s: %s", opened.path, note)
    return opened


def _e0_sum(settings: Settings, system: Structure) -> float | None:
    """Sum of the E0s that the user gave, in eV; None without any."""
    assert settings.mace is not None
    energies = settings.mace.architecture.atomic_energies
    if not energies:
        return None
    return math.fsum(energies[int(number)] for number in system.numbers)
