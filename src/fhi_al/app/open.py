"""Open a run: read and check its inputs, wire its parts, close them again."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fhi_al.active_learning.restart import continuation
from fhi_al.app import checks
from fhi_al.app.rank_assignment import assign_ranks, rank_layout
from fhi_al.core.errors import EngineError, InputError
from fhi_al.parallel import mpi
from fhi_al.parallel.layout import table, training_threads
from fhi_al.process.soft_stop import Stopped, leave_signals_to_rank_0
from fhi_al.report.logs import log_to_terminal
from fhi_al.settings import Settings, read_settings
from fhi_al.storage.folder_lock import FolderLock

if TYPE_CHECKING:
    from fhi_al.active_learning.run import Run

log = logging.getLogger(__name__)

STOPPED = 3


def read(workdir: Path) -> tuple[Path, Settings, checks.Inputs]:
    """The run's folder (absolute), settings and inputs, checked.

    Raises
    ------
    SettingsError, InputError
        With all problems found.
    """
    folder = workdir.resolve()
    settings = read_settings(folder)
    inputs = checks.read_inputs(folder, settings)
    checks.check(folder, settings, inputs)
    return folder, settings, inputs


def checked(workdir: Path, ranks: mpi.Ranks) -> list[str]:
    """What ``--check`` prints for inputs without problems.

    Raises
    ------
    SettingsError, InputError
        With all problems found.
    SnapshotError
        If the folder holds a run that these inputs cannot continue.
    """
    folder, settings, inputs = read(workdir)
    found = continuation(folder / "restart", settings, inputs.systems)
    begun = [] if found is None else [f"continues the run in restart/: {found.stage}"]
    return [
        settings.as_yaml("mace"),
        settings.as_yaml("active_learning"),
        *(f"note: {note}" for note in settings.notes),
        *(f"added to control.in: {line}" for line in checks.added_to_control(settings, inputs)),
        *checks.work_ahead(settings, inputs),
        *_layout_of(settings, ranks),
        *begun,
        *(f"changed since the snapshot: {change}" for change in (found.changes if found else [])),
        "all inputs are in order; nothing was run",
    ]


def _layout_of(settings: Settings, ranks: mpi.Ranks) -> list[str]:
    """Which rank would do what.

    Raises
    ------
    InputError
        If there are not enough ranks; a check on one rank, as on a login node, only says so.
    """
    assert settings.mace is not None
    try:
        layout = rank_layout(settings, len(ranks.placements))
    except InputError as error:
        if len(ranks.placements) > 1:
            raise
        return [f"layout: this check has one rank, the run needs more: {error}"]
    threads = training_threads(settings.mace.misc.num_threads, layout, ranks.placements)
    return table(layout, ranks.placements, threads, settings.mace.misc.device)


@contextmanager
def opened(workdir: Path, ranks: mpi.Ranks) -> Iterator[Run]:
    """On rank 0, the others serving: a run from its inputs, closed at the end.

    Raises
    ------
    SettingsError, InputError
        If the inputs are wrong; nothing was run then.
    FolderInUse
        If another run works in the folder.
    SnapshotError
        If the folder holds a run that these inputs cannot continue.
    EngineError
        If the reference engine fails for good.
    """
    folder, settings, inputs = read(workdir)
    assert settings.mace is not None
    rank_layout(settings, len(ranks.placements))
    log_to_terminal(settings.mace.misc.log_level)
    for note in settings.notes:
        log.info("%s", note)
    with closing(FolderLock(folder / "restart")):
        found = continuation(folder / "restart", settings, inputs.systems)
        who = assign_ranks(settings, ranks, found)
        # Imported here: torch takes seconds, and a run that cannot begin needs none of it.
        from fhi_al.app.build import assemble
        from fhi_al.report.summary import summary

        assembled = assemble(folder, settings, inputs, ranks.comm, who, found)
        run = assembled.run
        try:
            yield run
        except (EngineError, Stopped, OSError):
            # Agreed on by all ranks, or between two calls: closing, which is collective, is safe.
            # It waits for what others compute, and stores it.
            with suppress(EngineError, OSError):
                assembled.close()
            raise
        assembled.close()
        for line in summary(run.state, run.store, run.clock.seconds(), assembled.idle()):
            log.info("summary: %s", line)


@contextmanager
def open_run(workdir: Path | str = ".") -> Iterator[Run]:
    """Open the run in a folder, for use from Python; every rank of COMM_WORLD calls it.

    Rank 0 gets the run.  The other ranks serve it and leave the program, with SystemExit, when the
    block on rank 0 ends.

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
    comm = mpi.start()
    placements = mpi.placements(comm, os.environ.get("OMP_NUM_THREADS"))
    if comm.rank != 0:
        leave_signals_to_rank_0()
        from fhi_al.app.serving import Server

        raise SystemExit(mpi.serve(comm, Server(comm).act))
    code = 1
    try:
        with opened(Path(workdir), mpi.Ranks(comm, placements)) as run:
            yield run
        code = 0
    except Stopped as stopped:
        code = STOPPED
        log.warning("stopped: %s; start again to continue", stopped)
        raise SystemExit(STOPPED) from stopped
    finally:
        mpi.call(comm, "stop", code)
