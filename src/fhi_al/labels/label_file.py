"""``restart/labels.jsonl`` as a file: its lines, and what they hold for a run.

Of several lines with one key the last counts.  Nothing is written here; a line that was not written
whole is cut off.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from pathlib import Path

from fhi_al.core.label import Label
from fhi_al.labels.records import Entry, Record, Rejected, read_line

log = logging.getLogger(__name__)


class LabelStoreError(RuntimeError):
    """The store on disk is damaged in a way that a killed run cannot explain."""


def require_same_engine(path: Path, engine: str, older: Collection[str] = ()) -> Collection[Record]:
    """What a file holds, if a run with this engine can go on with it; changes nothing.

    Parameters
    ----------
    path : Path
        Of the store; need not be there.
    engine : str
    older : collection of str
        As in :class:`LabelStore`.

    Raises
    ------
    LabelStoreError
        As :class:`LabelStore`.
    """
    return LabelFile(path, engine, "", older).records.values()


class LabelFile:
    """What a file of labels holds, for a run with an engine and limits."""

    def __init__(self, path: Path, engine: str | None, limits: str, older: Collection[str]) -> None:
        self.records: dict[str, Record] = {}
        self.older_found: set[str] = set()
        self._path = path
        self._engine = engine
        self._limits = limits
        self._older = older
        self._content = path.read_bytes() if path.exists() else b""
        self._n_good_bytes = 0
        self._damaged_line: int | None = None
        # Lines with labels of another engine, by key.
        self._of_others: dict[str, int] = {}
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
            raise LabelStoreError(
                f"{self._path}:{min(self._of_others.values())}: this label was computed by another "
                "engine, method or control.in than the present one: expected one set of engine "
                "settings for all labels of a run. Put the settings back as they were (inputs/ has "
                "a copy), or start in a new folder."
            )

    def _keep(self, entry: Entry, line: int) -> None:
        record = entry.record
        same_engine = self._engine in (None, entry.engine) or entry.engine in self._older
        if isinstance(record, Rejected):
            # Older programs did not write the limits down.
            same_limits = entry.limits in (None, self._limits)
            if not (self._engine is None or (same_engine and same_limits)):
                return
        self._of_others.pop(entry.key, None)
        if record is None:
            self.records.pop(entry.key, None)
            return
        if isinstance(record, Label) and record.origin.phase != "imported" and not same_engine:
            self._of_others[entry.key] = line
        if same_engine and entry.engine in self._older:
            self.older_found.add(entry.engine)
        self.records[entry.key] = record
