"""Where the labels of a run come from: engine, gate, store and pool, wired by the settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mpi4py import MPI

from fhi_al import preflight
from fhi_al.cluster_preflight import cluster_options, cluster_specs
from fhi_al.core.plausible import LabelLimits
from fhi_al.core.structure import Structure
from fhi_al.crew import Crew
from fhi_al.dataset import LabelStore
from fhi_al.event_order import EventOrder
from fhi_al.reference.cluster import ClusterWorkers
from fhi_al.reference.crash_trace import CallRecord
from fhi_al.reference.engine_groups import EngineGroups, OwnWorker, last_words, specs_of_group
from fhi_al.reference.label_gate import LabelGate
from fhi_al.reference.label_pool import SerialLabelPool
from fhi_al.reference.overlapped_pool import OverlappedLabelPool
from fhi_al.reference.service import EngineService
from fhi_al.reference.spec import ClusterSpec, EngineSpec, fingerprint
from fhi_al.reference.workers import Workers
from fhi_al.report import clock
from fhi_al.report.clock import Clock
from fhi_al.settings import Settings
from fhi_al.soft_stop import SoftStop


@dataclass(frozen=True, eq=False)
class LabelSupply:
    """The label pool of a run, the order of its events, and who is at work for it.

    Parameters
    ----------
    pool : SerialLabelPool or OverlappedLabelPool
    order : EventOrder
    busy_seconds : callable
        Rank -> seconds it has spent on labels in this launch.
    """

    pool: SerialLabelPool | OverlappedLabelPool
    order: EventOrder
    busy_seconds: Callable[[], dict[int, float]]


def wire_labels(
    folder: Path,
    settings: Settings,
    inputs: preflight.Inputs,
    comm: MPI.Intracomm,
    crew: Crew,
    stopwatch: Clock,
    soft_stop: SoftStop,
    parts: ExitStack,
) -> LabelSupply:
    """Wire the label pool; what has to be closed goes to ``parts``.

    Raises
    ------
    LabelStoreError
        If the labels in ``restart/`` cannot be used.
    """
    al, restart = settings.al, folder / "restart"
    specs: list[EngineSpec] = []
    jobs: list[ClusterSpec] = []
    if al.cluster is None:
        specs = preflight.engine_specs(folder, settings, inputs)
    else:
        jobs = cluster_specs(folder, settings, inputs)
    limits = LabelLimits(al.max_force, al.max_energy_per_atom)
    store = LabelStore(restart / "labels.jsonl", fingerprint(jobs or specs), repr(limits))
    parts.callback(store.close)
    order = EventOrder(restart / "order.jsonl")
    parts.callback(order.close)
    cluster = None
    if al.cluster is not None:
        cluster = ClusterWorkers(jobs, cluster_options(settings), folder / "cluster")

    def words() -> str:
        if cluster is not None:
            return cluster.last_words()
        n_groups = max(1, len(crew.layout.groups))
        return last_words([s for k in range(n_groups) for s in specs_of_group(specs, k, n_groups)])

    calls = CallRecord(restart, words)
    parts.callback(calls.close)
    gate = LabelGate(
        inputs.systems,
        store,
        limits=limits,
        e0_sums=[_e0_sum(settings, system) for system in inputs.systems],
        max_failures=al.max_label_failures,
        last_words=words,
    )
    if not al.parallel:
        serial = SerialLabelPool(
            gate,
            EngineService(comm, specs, calls.traces),
            calls,
            timed=lambda: stopwatch.section(clock.DFT),
            before_each=soft_stop.check,
        )
        parts.callback(serial.close)

        def together() -> dict[int, float]:
            return dict.fromkeys(crew.layout.labelling, stopwatch.in_this_launch()[clock.DFT])

        return LabelSupply(serial, order, together)
    workers: Workers
    if cluster is not None:
        workers = cluster
    elif crew.layout.groups:
        workers = EngineGroups(comm, specs, crew.layout.groups, calls)
    else:
        alone = EngineService(comm, specs, calls.traces, alone=True)
        workers = OwnWorker(alone, calls, lambda: stopwatch.section(clock.DFT))
    overlapped = OverlappedLabelPool(
        gate,
        workers,
        order,
        waiting=lambda: stopwatch.section(clock.WAITING),
        check_stop=soft_stop.check,
    )
    parts.callback(overlapped.close)
    return LabelSupply(overlapped, order, workers.busy_seconds)


def _e0_sum(settings: Settings, system: Structure) -> float | None:
    """Sum of the E0s that the user gave, in eV; None without any."""
    assert settings.mace is not None
    energies = settings.mace.architecture.atomic_energies
    if not energies:
        return None
    return math.fsum(energies[int(number)] for number in system.numbers)
