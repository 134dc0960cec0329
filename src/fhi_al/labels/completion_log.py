"""In which order things that run at the same time were seen to finish; on disk, to be repeated.

Owns ``restart/order.jsonl``.  With reference calculations in the background, what a run does
depends on when they end.  Every look at what has finished has a number; a look that found something
is written down before anything is done about it, and so is the number at which each label was asked
for.  A resumed run, and a run in a new folder that was given this file and the labels, sees the
same things at the same looks, until the file is used up.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger(__name__)


class CompletionLog:
    """The recorded order of events of a run.

    Parameters
    ----------
    path : Path
        Made when there is something to write.

    Attributes
    ----------
    count : int
        Looks so far; part of the run's state.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._seen: dict[int, list[str]] = {}
        self._end = 0
        self._stream: BinaryIO | None = None
        self._read()

    @property
    def is_repeating(self) -> bool:
        """Whether the next look is one of the record."""
        return self.count < self._end

    def recorded(self) -> list[str] | None:
        """What the next look found according to the record; None if it is not in it."""
        return self._seen.get(self.count, []) if self.is_repeating else None

    def record(self, found: list[str]) -> None:
        """Count a look and, unless it is in the record, write down what it found."""
        if found and not self.is_repeating:
            self._write({"look": self.count, "found": found})
            self._seen[self.count] = found
        self.count += 1
        self._end = max(self._end, self.count if found else 0)

    def pending(self, key: str) -> None:
        """Write down that a label was asked for between the last look and the next one.

        A resumed run repeats all looks before it, asks again, and finds what was paid for.
        """
        if self.count > self._end:
            self._write({"look": self.count, "asked": key})
            self._end = self.count

    def forget_the_rest(self) -> None:
        """Drop what the record says of the looks to come: this run goes another way."""
        kept = {record: found for record, found in self._seen.items() if record < self.count}
        self._end = min(self._end, self.count)
        if len(kept) == len(self._seen):
            return
        self._seen = kept
        self.close()
        temporary = self.path.with_name(self.path.name + ".new")
        lines = [_line({"look": record, "found": found}) for record, found in sorted(kept.items())]
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
        for number, line in enumerate(content.splitlines(keepends=True), start=1):
            try:
                entry = json.loads(line)
                record = int(entry["look"])
                # A later line wins: a run that went another way has written its own.
                if "found" in entry:
                    self._seen[record] = list(entry["found"])
                self._end = max(self._end, record + ("found" in entry))
            except (ValueError, KeyError, TypeError):
                log.warning(
                    "%s:%d: damaged line; the order of events is repeated up to here and new from "
                    "there on",
                    self.path,
                    number,
                )
                break
            good += len(line)
        if good < len(content):
            os.truncate(self.path, good)

    def _write(self, entry: dict[str, object]) -> None:
        if self._stream is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self.path.open("ab", buffering=0)
        self._stream.write(_line(entry))
        os.fsync(self._stream.fileno())


def _line(entry: dict[str, object]) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"
