"""``restart/labels.jsonl`` as a file: its lines, and what they hold for a run.

Of several lines with one key the last counts.  A label is of the engine of its system.  Nothing is
written here; a line that was not written whole is cut off.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from fhi_al.core.label import Label
from fhi_al.engines.fingerprint import Fingerprint
from fhi_al.labels.records import Entry, Record, Rejected, read_line

log = logging.getLogger(__name__)


class LabelStoreError(RuntimeError):
    """The store on disk is damaged in a way that a killed run cannot explain."""


# One fingerprint for each system; one text for whatever system there is.
Engines = str | Sequence[Fingerprint]


def engine_of(engines: Engines, system: int) -> Fingerprint | None:
    """The engine of a system; None if there is no such system."""
    if isinstance(engines, str):
        return Fingerprint(engines)
    return engines[system] if system < len(engines) else None


def require_same_engines(path: Path, engines: Engines) -> Collection[Record]:
    """What a file holds, if a run with these engines can go on with it; changes nothing.

    Parameters
    ----------
    path : Path
        Of the store; need not be there.
    engines : sequence of Fingerprint or str
        As in :class:`LabelStore`.

    Raises
    ------
    LabelStoreError
        As :class:`LabelStore`.
    """
    return LabelFile(path, engines, "").records.values()


class LabelFile:
    """What a file of labels holds, for a run with engines (None: any) and limits."""

    def __init__(self, path: Path, engines: Engines | None, limits: str) -> None:
        self.records: dict[str, Record] = {}
        # Names of older programs -> those of today.
        self.older_found: dict[str, str] = {}
        self._path = path
        self._engines = engines
        self._limits = limits
        self._content = path.read_bytes() if path.exists() else b""
        self._n_good_bytes = 0
        self._damaged_line: int | None = None
        # Lines with labels of another engine than that of their system, and the system, by key.
        self._of_others: dict[str, tuple[int, int]] = {}
        self._read()

    def cut_off(self) -> None:
        """Take a last line that was not written whole from the file."""
        if self._damaged_line is not None:
            log.warning(
                "%s:%d: cut off a label that was not written whole", self._path, self._damaged_line
            )
            os.truncate(self._path, self._n_good_bytes)

    def _read(self) -> None:
        for number, line in enumerate(self._content.splitlines(keepends=True), start=1):
            read = read_line(line)
            if read is None:
                if self._n_good_bytes + len(line) < len(self._content):
                    raise LabelStoreError(
                        f"{self._path}:{number}: damaged line, expected a label as this program "
                        "wrote it. Put the file back from a copy, or delete the line: its label "
                        "is then computed again."
                    )
                self._damaged_line = number
                break
            self._n_good_bytes += len(line)
            self._keep(read, number)
        if self._of_others:
            raise LabelStoreError(self._foreign(*min(self._of_others.values())))

    def _foreign(self, line: int, system: int) -> str:
        assert self._engines is not None
        engine = engine_of(self._engines, system)
        if engine is None:
            return (
                f"{self._path}:{line}: this label is of system {system}, counted from 0, of which"
                f" there are {len(self._engines)}: expected the systems that the run began with, in"
                " their order. Put them back (inputs/ has a copy), or start in a new folder."
            )
        of_system = f" of system {engine.system}" if engine.system else ""
        return (
            f"{self._path}:{line}: this label{of_system} was computed by another engine, method or"
            " control.in than the present one: expected one set of engine settings for all labels"
            f" of a {'system' if of_system else 'run'}. Put the settings back as they were (inputs/"
            " has a copy), or start in a new folder."
        )

    def _keep(self, entry: Entry, line: int) -> None:
        record = entry.record
        if record is None:
            self._of_others.pop(entry.key, None)
            self.records.pop(entry.key, None)
            return
        engine = None if self._engines is None else engine_of(self._engines, record.system)
        same_engine = self._engines is None or (engine is not None and engine.matches(entry.engine))
        if isinstance(record, Rejected):
            # Older programs did not write the limits down.
            same_limits = entry.limits in (None, self._limits)
            if not (self._engines is None or (same_engine and same_limits)):
                return
        self._of_others.pop(entry.key, None)
        if isinstance(record, Label) and record.origin.phase != "imported" and not same_engine:
            self._of_others[entry.key] = (line, record.system)
        if same_engine and engine is not None and entry.engine != engine.value:
            self.older_found[entry.engine] = engine.value
        self.records[entry.key] = record
