"""Wire ``FHI_AL-label``: the structures of a file, the run's engine, a store of their own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from fhi_al.app.cluster_options import cluster_options
from fhi_al.app.label.labelled_file import compute_missing, remember, write_output
from fhi_al.app.label.selection import selected
from fhi_al.app.label.work import LABELS, LabelOrder, LabelWork, read_label_work
from fhi_al.app.label_supply import LabelPlace, LabelSupply, Surroundings, wire_queue
from fhi_al.app.observation import ranks_that_label, watched
from fhi_al.app.open import closed_at_the_end
from fhi_al.app.process_set_up import Process
from fhi_al.core.errors import InputError
from fhi_al.engines import registry
from fhi_al.labels.label_file import LabelFile
from fhi_al.labels.records import Rejected
from fhi_al.labels.serial_queue import LabelQueue
from fhi_al.labels.store import LabelStore
from fhi_al.labels.validation import LabelRequest, LabelValidator
from fhi_al.parallel.layout import Layout, LayoutError, layout
from fhi_al.process.soft_stop import STOP_FILE, SoftStop
from fhi_al.report.clock import Clock
from fhi_al.report.command_status import CommandProgress, CommandStatusSource
from fhi_al.report.logs import log_to_file, stop_log, terminal_log
from fhi_al.report.status_file import Launch, StatusFile
from fhi_al.settings import Settings
from fhi_al.storage.folder_lock import FolderLock

log = logging.getLogger(__name__)

LOG = "label.log"
# Structures in the queue for each that can be computed at a time.
QUEUED = 2
# Engines that a process keeps: a file may hold a thousand systems, and models take memory.
MOST_OPEN = 8


def compute(folder: Path, order: LabelOrder, process: Process, bars: bool | None = False) -> None:
    """On rank 0, the others serving: compute what has no result yet, and write the output.

    Parameters
    ----------
    folder : Path
    order : LabelOrder
    process : Process
    bars : bool or None
        Whether standard output shows progress bars; None: where it is a terminal.

    Raises
    ------
    SettingsError, InputError, FolderInUse, LabelStoreError
        If the inputs are wrong; nothing was run then.
    Stopped
        If asked to stop.
    EngineError
        If the engine is broken, or some structures have no label; the output is written then.
    """
    work = read_label_work(folder, order)
    settings = work.settings
    ranks = label_layout(settings, process)
    process.changes.enter_context(terminal_log("INFO"))
    with ExitStack() as outer:
        outer.enter_context(closing(FolderLock(work.state, work.state / STOP_FILE)))
        outer.callback(stop_log, log_to_file(work.state / LOG))
        for note in work.notes:
            log.warning("%s", note)
        for line in work.added_to_control():
            log.info("added to control.in: %s", line)
        for line in [*work.systems.described(), layout_line(settings, ranks)]:
            log.info("%s", line)
        soft_stop = SoftStop(work.state, settings.misc.walltime_limit)
        process.changes.enter_context(soft_stop.listening())
        # Of a launch that ended: here nothing depends on what arrived when.
        (work.state / "order.jsonl").unlink(missing_ok=True)
        around = Surroundings(process.comm, ranks, Clock(), soft_stop)
        parts = ExitStack()
        with closed_at_the_end(process, parts.close):
            supply = _supply(work, around, parts)
            store = supply.queue.validator.store
            requests = work.requests(store)
            keys = {request.key for request in requests}
            progress = CommandProgress()
            source = CommandStatusSource(
                progress,
                around.stopwatch,
                lambda: [record for key in keys if (record := store.get(key)) is not None],
                lambda: ranks_that_label(process, around, supply),
            )
            launch = Launch("FHI_AL-label", order.file.name, ranks.n_ranks, time.time())
            file = StatusFile(work.state, launch)
            with watched(source.status, file, bars, lambda: f"labels are in {work.output}"):
                most_waiting = QUEUED * n_workers(settings, ranks)
                _compute(work, order, requests, supply.queue, soft_stop, most_waiting, progress)


def _compute(
    work: LabelWork,
    order: LabelOrder,
    requests: Sequence[LabelRequest],
    queue: LabelQueue,
    soft_stop: SoftStop,
    most_waiting: int,
    progress: CommandProgress,
) -> None:
    store = queue.validator.store
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
    compute_missing([requests[k] for k in in_order], queue, soft_stop, most_waiting, progress)
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
    work = read_label_work(folder, order)
    known = LabelFile(work.state / LABELS, "", work.limits.name).records
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
        layout_checked(work.settings, process),
        "all inputs are in order; nothing was run",
    ]


def _supply(work: LabelWork, around: Surroundings, parts: ExitStack) -> LabelSupply:
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


def label_layout(settings: Settings, process: Process) -> Layout:
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


def layout_checked(settings: Settings, process: Process) -> str:
    """Who would compute; on one rank, as on a login node, that the launch needs more.

    Raises
    ------
    InputError
        If there are not enough ranks.
    """
    try:
        return layout_line(settings, label_layout(settings, process))
    except InputError as error:
        if len(process.placements) > 1:
            raise
        return f"layout: this check has one rank, the launch needs more: {error}"


def layout_line(settings: Settings, ranks: Layout) -> str:
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


def n_workers(settings: Settings, ranks: Layout) -> int:
    if settings.al.cluster is not None:
        return cluster_options(settings).most_jobs
    return max(1, len(ranks.groups))
