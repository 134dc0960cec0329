"""Make the report of a run's folder: by a command, and at the end of a run or of its snapshots."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fhi_al.core.errors import InputError
from fhi_al.parallel.layout import Layout
from fhi_al.report.activity import ACTIVITY, REPORT_FOLDER, ActivityRecord, Busy
from fhi_al.storage.atomic_file import write_atomically
from fhi_al.storage.folder_lock import require_no_file

if TYPE_CHECKING:
    from fhi_al.active_learning.run import Run

log = logging.getLogger(__name__)

PAGE = "report.html"
# Of the wall time that reports after snapshots may take.
_LARGEST_SHARE = 0.01


def write_report(folder: Path, target: Path | None = None) -> Path:
    """Write the report of a run, whatever state it is in.

    Parameters
    ----------
    folder : Path
        Of the run; nothing in it is changed but the report.
    target : Path, optional
        The file; ``report/report.html`` in the folder if it is left out.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the folder is no run's, or the file's name is that of a folder.
    OSError
        If the file cannot be written.
    """
    # Late: a run that makes no report needs none of it.
    from fhi_al.app.run_record import run_record
    from fhi_al.report.page.page import report_html

    target = target or folder / REPORT_FOLDER / PAGE
    record = run_record(folder)
    require_no_file(target.parent)
    if target.is_dir():
        raise InputError([f"{target}: is a folder: expected the name of a file. Give -o FILE."])
    write_atomically(target, report_html(record))
    return target


class ReportOfRun:
    """Writes the report of a run that is going on, and lets no error of its own stop it.

    Parameters
    ----------
    folder : Path
        Of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._run_folder = folder
        self._written_at = time.monotonic()
        self._took_s = 0.0

    @property
    def folder(self) -> Path:
        """Of the report, and of what is kept for it."""
        return self._run_folder / REPORT_FOLDER

    def keeps_activity(self, run: Run, layout: Layout, busy: Callable[[], Busy]) -> ActivityRecord:
        """Begin to keep who does what when; the caller closes the record."""
        record = ActivityRecord(
            self.folder / ACTIVITY,
            run.report.clock,
            run.report.journal,
            busy,
            lambda: len(run.store),
        )
        record.begin([layout.roles(rank) for rank in range(layout.n_ranks)])
        return record

    def after_snapshot(self) -> None:
        """Write it if the last one took less than a hundredth of the time since."""
        if time.monotonic() - self._written_at >= self._took_s / _LARGEST_SHARE:
            self._write()

    def at_the_end(self) -> None:
        """Write it, and say where it is."""
        target = self._write()
        if target is not None:
            log.info("report: %s", target)

    def _write(self) -> Path | None:
        started = time.monotonic()
        try:
            return write_report(self._run_folder)
        except Exception as error:  # the run itself is safe: no reason to fail
            log.warning(
                "no report: %s: %s (FHI_AL-report %s tries again)",
                type(error).__name__,
                error,
                self._run_folder,
            )
            return None
        finally:
            self._written_at = time.monotonic()
            self._took_s = self._written_at - started
