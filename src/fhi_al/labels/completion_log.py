"""In which order things that run at the same time were seen to finish; on disk, to be repeated.

Owns ``restart/order.jsonl``.  With reference calculations in the background, what a run does
depends on when they end.  Every time it asks what has finished is a numbered record; one that holds
something is written before anything is done about it, and so is the number at which each label was
submitted.  A resumed run, and a run in a new folder that was given this file and the labels, finds
the same things finished at the same records, until the file is used up.
"""

from __future__ import annotations

import json
import logging
import os
from io import FileIO
from pathlib import Path

from fhi_al.storage.atomic_file import append_whole

log = logging.getLogger(__name__)


class CompletionLog:
    """The order in which work of a run was seen to finish.

    Parameters
    ----------
    path : Path
        Made when there is something to write.

    Attributes
    ----------
    n_records : int
        Records so far; part of the run's state.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_records = 0
        self._records: dict[int, list[str]] = {}
        # Labels that were taken back -> number of the record.
        self._withdrawn: dict[str, int] = {}
        self._end = 0
        self._stream: FileIO | None = None
        self._read()

    @property
    def is_replaying(self) -> bool:
        """Whether the next record was written by a run before this one."""
        return self.n_records < self._end

    def recorded(self) -> list[str] | None:
        """What had finished at the next record; None if it has not been written yet."""
        return self._records.get(self.n_records, []) if self.is_replaying else None

    def is_taken_back(self, key: str) -> bool:
        """Whether a record to come says that a label was taken back: computed in vain."""
        return self._withdrawn.get(key, -1) >= self.n_records

    def record(self, finished: list[str], *, withdrawn: bool = False) -> None:
        """Count a record and, unless an earlier run wrote it, write down what has finished.

        Parameters
        ----------
        finished : list of str
        withdrawn : bool
            These have not finished, but were taken back before they were begun.

        Raises
        ------
        OSError
            If the disk is full or read-only; file and count are as before the call.
        """
        if finished and not self.is_replaying:
            entry: dict[str, object] = {"look": self.n_records, "found": finished}
            self._write({**entry, "withdrawn": True} if withdrawn else entry)
            self._records[self.n_records] = finished
        self.n_records += 1
        self._end = max(self._end, self.n_records if finished else 0)

    def submitted(self, key: str) -> None:
        """Write down that a label was submitted between the last record and the next one.

        A resumed run repeats all records before it, submits again, and finds what was paid for.
        """
        if self.n_records > self._end:
            self._write({"look": self.n_records, "asked": key})
            self._end = self.n_records

    def discard_rest(self) -> None:
        """Drop the records to come: this run takes another way."""
        kept = {number: found for number, found in self._records.items() if number < self.n_records}
        self._end = min(self._end, self.n_records)
        if len(kept) == len(self._records):
            return
        self._records = kept
        taken_back = set(self._withdrawn.values())
        self._withdrawn = {k: n for k, n in self._withdrawn.items() if n < self.n_records}
        self.close()
        temporary = self.path.with_name(self.path.name + ".new")
        lines = [
            _line({"look": n, "found": found} | ({"withdrawn": True} if n in taken_back else {}))
            for n, found in sorted(kept.items())
        ]
        with temporary.open("wb") as stream:
            stream.writelines(lines)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(self.path)

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _read(self) -> None:
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        good = 0
        for line_number, line in enumerate(content.splitlines(keepends=True), start=1):
            try:
                entry = json.loads(line)
                number = int(entry["look"])
                # A later line wins: a run that went another way has written its own.
                if "found" in entry:
                    self._records[number] = list(entry["found"])
                    if entry.get("withdrawn"):
                        self._withdrawn |= dict.fromkeys(entry["found"], number)
                self._end = max(self._end, number + ("found" in entry))
            except (ValueError, KeyError, TypeError):
                log.warning(
                    "%s:%d: damaged line; the order of events is repeated up to here and new from "
                    "there on",
                    self.path,
                    line_number,
                )
                break
            good += len(line)
        if good < len(content):
            os.truncate(self.path, good)

    def _write(self, entry: dict[str, object]) -> None:
        if self._stream is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self.path.open("ab", buffering=0)
        append_whole(self._stream, _line(entry))


def _line(entry: dict[str, object]) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"
