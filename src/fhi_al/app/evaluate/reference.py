"""The run's engine as evaluations ask for it: labels of any structures of its systems, kept.

Owns ``evaluation/labels.jsonl``: a label is computed once, whatever ends a launch.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from fhi_al.app import checks
from fhi_al.app.cluster_checks import cluster_problems
from fhi_al.app.label.command import label_layout, layout_line, n_workers
from fhi_al.app.label_supply import LabelPlace, Surroundings, wire_queue
from fhi_al.app.observation import ranks_that_label
from fhi_al.app.process_set_up import Process
from fhi_al.core.errors import InputError
from fhi_al.core.label import Label, Origin
from fhi_al.core.plausible import LabelLimits
from fhi_al.core.structure import Array
from fhi_al.engines import registry
from fhi_al.engines.fingerprint import identity_number
from fhi_al.engines.inputs import Inputs
from fhi_al.engines.spec import EngineSpec
from fhi_al.labels.records import Rejected
from fhi_al.labels.serial_queue import LabelQueue
from fhi_al.labels.store import LabelStore
from fhi_al.labels.validation import LabelRequest, LabelValidator
from fhi_al.process.soft_stop import SoftStop
from fhi_al.report.clock import DFT, Clock
from fhi_al.report.pulse import Pulse
from fhi_al.report.status import RankStatus
from fhi_al.report.status_file import look_at
from fhi_al.settings import Settings

log = logging.getLogger(__name__)

LABELS = "labels.jsonl"
# Structures in the queue for each that can be computed at a time.
QUEUED = 2


@dataclass(frozen=True, eq=False)
class EngineInputs:
    """What the engine needs: read and checked.

    Parameters
    ----------
    folder : Path
        Of the run.
    state : Path
        Of what is kept between launches.
    settings : Settings
    inputs : Inputs
        The systems that have trajectories.
    specs : list of EngineSpec
        Of each system.
    notes : tuple of str
        What may not be meant.
    """

    folder: Path
    state: Path
    settings: Settings
    inputs: Inputs
    specs: list[EngineSpec]
    notes: tuple[str, ...]

    @property
    def limits(self) -> LabelLimits:
        """What a label must not exceed; energies have no reference here."""
        return replace(checks.label_limits(self.settings), max_energy_per_atom=math.inf)


def read_engine_inputs(folder: Path, state: Path, settings: Settings | None) -> EngineInputs:
    """Everything that can be known to be wrong with the engine before any calculation.

    Raises
    ------
    InputError
        With all problems found.
    """
    if settings is None:
        raise InputError(
            [
                f"{folder}: no active_learning_settings.yaml: expected a run's folder, whose engine"
                " and geometry are used. Give --workdir DIR, or --on FILE."
            ]
        )
    every = checks.read_inputs(settings)
    inputs = replace(every, each=every.moving)
    problems = [
        *cluster_problems(folder, settings),
        *registry.engine_problems(folder, settings, inputs),
    ]
    if len(inputs.each) > 1 and registry.one_system_per_process(settings):
        problems.append(
            f"{folder}: {len(inputs.each)} systems: expected one, for FHI-aims as a library knows"
            " one in a process. Set ACTIVE_LEARNING.cluster, or evaluate in a folder for each."
        )
    if problems:
        raise InputError(problems)
    specs = registry.engine_specs(folder, settings, inputs)
    notes = tuple(registry.engine_notes(folder, settings, inputs))
    specs = [spec.in_folder(state) for spec in specs]
    return EngineInputs(folder, state, settings, inputs, specs, notes)


def label_seconds(folder: Path) -> float | None:
    """What a label of the run in a folder took rank 0, in s; None where nothing says.

    Parameters
    ----------
    folder : Path
    """
    content = look_at(folder, time.time()).content
    n_labels = content.get("labels", {}).get("computed", 0)
    seconds = content.get("seconds", {}).get(DFT, 0.0)
    return seconds / n_labels if n_labels and seconds else None


class ReferenceCalculations:
    """Labels by the run's engine, each computed once.

    Parameters
    ----------
    engine : EngineInputs
    queue : LabelQueue
    soft_stop : SoftStop
    most_waiting : int
        Structures that are in the queue at a time.

    Attributes
    ----------
    n_computed : int
        Calculations of this launch.
    store : LabelStore
        All labels that are there.
    """

    def __init__(
        self, engine: EngineInputs, queue: LabelQueue, soft_stop: SoftStop, most_waiting: int
    ) -> None:
        self.engine = engine
        self.n_computed = 0
        self.store = queue.validator.store
        self._queue = queue
        self._soft_stop = soft_stop
        self._most_waiting = most_waiting
        self._names = [identity_number(spec, stress=spec.wants_stress) for spec in engine.specs]
        self._pulse = Pulse()

    def labels(
        self, structures: Sequence[tuple[int, Array, Array]], origin: Origin
    ) -> list[Label | Rejected]:
        """A label for each structure, or why there is none.

        Parameters
        ----------
        structures : sequence of (system, (n_atoms, 3), (3, 3))
            Place of the system, positions and cell in A.
        origin : Origin
            Of all.

        Raises
        ------
        Stopped
            If asked to stop; what has been computed is kept.
        TooManyFailures, EngineError
            As the queue.
        """
        requests = [
            LabelRequest(system, positions.copy(), cell.copy(), origin, self._names[system])
            for system, positions, cell in structures
        ]
        store = self.store
        every = {request.key: request for request in reversed(requests)}
        left = [every[key] for key in dict.fromkeys(r.key for r in requests) if key not in store]
        n_waiting = 0
        while left or n_waiting:
            self._soft_stop.check()
            while left and n_waiting < self._most_waiting:
                self._queue.submit(left.pop(0))
                n_waiting += 1
            arrived = len(self._queue.poll(wait=True))
            n_waiting -= arrived
            self.n_computed += arrived
            if self._pulse.is_due():
                log.info("%d reference calculations done in this launch", self.n_computed)
        found = []
        for request in requests:
            record = store.get(request.key)
            assert record is not None
            found.append(record)
        return found


@dataclass(frozen=True, eq=False)
class OpenReference:
    """The engine, wired.

    Parameters
    ----------
    calculations : ReferenceCalculations
    ranks : callable
        () -> what each rank does.
    """

    calculations: ReferenceCalculations
    ranks: Callable[[], tuple[RankStatus, ...]]


def open_reference(
    engine: EngineInputs,
    process: Process,
    soft_stop: SoftStop,
    stopwatch: Clock,
    parts: ExitStack,
) -> OpenReference:
    """Wire the engine on rank 0, the others serving; what has to be closed goes to ``parts``.

    Raises
    ------
    InputError
        If there are not enough ranks.
    LabelStoreError
        If the labels that are there cannot be used.
    """
    settings, state = engine.settings, engine.state
    ranks = label_layout(settings, process)
    log.info("%s", layout_line(settings, ranks))
    for note in engine.notes:
        log.warning("%s", note)
    state.mkdir(parents=True, exist_ok=True)
    # Of a launch that ended: here nothing depends on what arrived when.
    (state / "order.jsonl").unlink(missing_ok=True)
    # A name of a structure says which engine it is of: labels of several may be in one store.
    store = LabelStore(state / LABELS, "", engine.limits.name)
    parts.callback(store.close)
    validator: Callable[..., LabelValidator] = partial(
        LabelValidator,
        engine.inputs.systems,
        store,
        limits=engine.limits,
        e0_sums=[None] * len(engine.specs),
        max_failures=settings.al.max_label_failures,
        wants_stress=settings.computes_stress,
    )
    around = Surroundings(process.comm, ranks, stopwatch, soft_stop)
    place = LabelPlace(state, state / "cluster")
    supply = wire_queue(settings, engine.specs, validator, place, around, parts)
    calculations = ReferenceCalculations(
        engine, supply.queue, soft_stop, QUEUED * n_workers(settings, ranks)
    )
    return OpenReference(calculations, lambda: ranks_that_label(process, around, supply))
