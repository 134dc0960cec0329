"""Open a run: lock its folder, wire its parts, close them again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fhi_al.app import fine_tuning
from fhi_al.app.definition import definition_of
from fhi_al.app.exit_codes import DONE, FAILED, STOPPED, exit_code
from fhi_al.app.needs import Command
from fhi_al.app.prepare import Define, Prepared, checked, notes_on_data, notes_on_engine, prepare
from fhi_al.app.process_set_up import Process, process_set_up, serve
from fhi_al.app.rank_assignment import assign_ranks, rank_layout
from fhi_al.core.run_state import Stage
from fhi_al.labels.store import LabelStore
from fhi_al.parallel import mpi
from fhi_al.process.soft_stop import STOP_FILE, Stopped
from fhi_al.report.logs import terminal_log
from fhi_al.storage.folder_lock import FolderLock

if TYPE_CHECKING:
    from fhi_al.active_learning.run import Run

log = logging.getLogger(__name__)


@contextmanager
def prepared(
    define: Define, process: Process, command: Command = Command.ALL
) -> Iterator[Prepared]:
    """A run, checked, whose folder is nobody else's until the block ends.

    Nothing is written before everything is known to be in order.

    Parameters
    ----------
    define : callable
        As for :func:`checked`.
    process : Process
    command : Command

    Raises
    ------
    SettingsError, InputError, SnapshotError
        With all problems found; InputError also if there are not enough ranks.
    FolderInUse
        If another run works in the folder.
    """
    definition = define()
    settings = definition.settings
    assert settings.mace is not None
    process.changes.enter_context(terminal_log(settings.mace.misc.log_level))
    restart = definition.folder / "restart"
    with ExitStack() as parts:
        # Of a run that is there, before anybody reads its snapshots.
        is_there = restart.is_dir()
        if is_there:
            parts.enter_context(closing(FolderLock(restart, definition.folder / STOP_FILE)))
        run = prepare(definition, command)
        if run.needs.models:
            inputs = run.definition.inputs if run.needs.labels else None
            rank_layout(settings, process.placements, inputs)
        if not is_there:
            parts.enter_context(closing(FolderLock(restart, definition.folder / STOP_FILE)))
        yield run


def report_finished(run: Prepared) -> None:
    """Log that a command has nothing left to do, and the summary of what was done."""
    found = run.found
    assert found is not None
    # Imported here: it takes torch.
    from fhi_al.active_learning.snapshot import unpack
    from fhi_al.report.summary import summary

    for change in found.changes:
        log.info("changed since the snapshot: %s", change)
    done = "active learning" if found.stage is Stage.DONE else "the initial dataset"
    log.info("%s is complete already", done)
    state = unpack(found.files).state
    with closing(LabelStore(run.restart / "labels.jsonl", engines=None)) as store:
        for line in summary(state, store, state.seconds, [], run.definition.inputs.names):
            log.info("summary: %s", line)


@contextmanager
def wired(prepared: Prepared, process: Process, bars: bool | None = None) -> Iterator[Run]:
    """On rank 0, the others serving: a prepared run, closed at the end.

    Parameters
    ----------
    prepared : Prepared
    process : Process
    bars : bool or None
        Whether standard output shows progress bars; None: where it is a terminal.

    Raises
    ------
    SnapshotError, LabelStoreError
        If what is in ``restart/`` cannot be continued.
    EngineError
        If the reference engine fails for good.
    """
    settings, found = prepared.definition.settings, prepared.found
    for note in [*settings.notes, *fine_tuning.notes(settings)]:
        log.info("%s", note)
    for note in [*notes_on_engine(prepared), *notes_on_data(prepared)]:
        log.warning("%s", note)
    inputs = prepared.definition.inputs if prepared.needs.labels else None
    who = assign_ranks(settings, process, found, inputs)
    # Imported here: torch takes seconds, and a run that cannot begin needs none of it.
    from fhi_al.app.build import assemble
    from fhi_al.app.observation import observed
    from fhi_al.report.summary import summary

    assembled = assemble(
        prepared.definition, process, who, found, prepared.needs, prepared.initial_data
    )
    run = assembled.run
    watching = observed(assembled, settings, who, prepared.command, bars)
    with closed_at_the_end(process, assembled.close), watching:
        yield run
    names = prepared.definition.inputs.names
    lines = summary(run.state, run.store, run.clock.seconds(), assembled.idle(), names)
    if assembled.report is not None:
        assembled.report.at_the_end()
    for line in lines:
        log.info("summary: %s", line)


@contextmanager
def closed_at_the_end(process: Process, close: Callable[[], None]) -> Iterator[None]:
    """Close what all ranks have parts of, after an error only if they can still take part."""
    try:
        yield
    except BaseException as error:
        _require_serving(process, error)
        # Agreed on by all ranks, or between two calls: closing, which is collective, is safe.
        # It waits for what others compute, and stores it.
        with suppress(Exception):
            close()
        raise
    close()


def _require_serving(process: Process, error: BaseException) -> None:
    """End the job after an error that others may not know of, if they do not wait for commands."""
    if exit_code(error) is None and not mpi.all_serve(process.comm):
        mpi.end_job(process.comm, error)


class ServedToTheEnd(SystemExit):
    """On a serving rank: rank 0 has left its block; ``code`` is the exit code that it gave."""


def open_run(workdir: Path | str = ".") -> AbstractContextManager[Run]:
    """Open the run in a folder, for use from Python; every rank of COMM_WORLD calls it.

    Rank 0 gets the run.  The other ranks serve it and leave the program, with SystemExit, when the
    block on rank 0 ends.

    Within the block the process is set up as for the commands: SIGINT (Ctrl-C), SIGTERM, SIGUSR1
    and SIGHUP ask the run to stop, its messages go to standard output (which may be closed), ASE is
    serial, torch has the run's threads.  After it everything is as before, also if an error leaves
    the block.

    Parameters
    ----------
    workdir : Path or str
        Folder with the inputs.

    Raises
    ------
    SettingsError, InputError
        If the inputs are wrong.
    EngineError
        If the reference engine fails for good.
    SystemExit
        With code 3, if the run was asked to stop.
    """
    return opened(lambda: definition_of(Path(workdir)))


@contextmanager
def opened(define: Define) -> Iterator[Run]:
    """As :func:`open_run`, for a run that a folder's files or Python objects define.

    Raises
    ------
    ServedToTheEnd
        On the other ranks, when the block on rank 0 has ended.
    """
    leaving: BaseException | None = None
    with process_set_up() as process:
        if not process.drives:
            leaving = ServedToTheEnd(serve(process))
        else:
            try:
                with prepared(define, process) as inputs, wired(inputs, process) as run:
                    yield run
            except BaseException as error:
                _require_serving(process, error)
                # Raised below: an error that leaves process_set_up ends the job.
                leaving = error
                if isinstance(error, Stopped):
                    log.warning("stopped: %s; start again to continue", error)
            mpi.call(
                process.comm, "stop", DONE if leaving is None else exit_code(leaving) or FAILED
            )
    if isinstance(leaving, Stopped):
        raise SystemExit(STOPPED) from leaving
    if leaving is not None:
        raise leaving


def check_alone(define: Define) -> list[str]:
    """:func:`checked`, for use from Python; every rank of COMM_WORLD calls it.

    Raises
    ------
    SettingsError, InputError, SnapshotError, LabelStoreError
        As :func:`checked`; on rank 0.
    """
    found: list[str] = []
    leaving: Exception | None = None
    with process_set_up() as process:
        if not process.drives:
            serve(process)
            return []
        try:
            found = checked(define, process)
        except Exception as error:
            leaving = error
        mpi.call(process.comm, "stop", DONE)
    if leaving is not None:
        raise leaving
    return found
