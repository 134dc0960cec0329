"""The journal: one JSON line per thing that happened, from which all tables can be made again.

Owns ``restart/journal.jsonl``.  A snapshot holds the journal's length at that time; a resumed run
cuts off what was written after it and will happen again.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

Entry = dict[str, Any]


class Journal:
    """An append-only event log with listeners.

    Parameters
    ----------
    path : Path
        Made, with its folder, if it is not there.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._stream = path.open("ab")
        self._listeners: list[Callable[[Entry], None]] = []

    def cut(self, length: int) -> None:
        """Forget everything after the first ``length`` bytes; a shorter journal stays as it is."""
        size = self.size()
        if size < length:
            log.warning(
                "%s: %d bytes are missing at its end: the tables lack what they held, the run "
                "does not need it",
                self.path,
                length - size,
            )
        os.truncate(self.path, min(length, size))

    def listen(self, listener: Callable[[Entry], None]) -> None:
        """Replay all entries to a listener, then tell it each new one."""
        for entry in self.entries():
            listener(entry)
        self._listeners.append(listener)

    def entries(self) -> Iterator[Entry]:
        """All entries so far; a damaged line is left out, with a warning."""
        self._stream.flush()
        for number, line in enumerate(self.path.read_bytes().splitlines(), start=1):
            try:
                yield json.loads(line)
            except ValueError:
                log.warning("%s:%d: damaged line, left out of the tables", self.path, number)

    def add(self, kind: str, **values: Any) -> None:
        """Record that something happened."""
        entry = {"kind": kind, **values}
        self._stream.write(json.dumps(entry).encode() + b"\n")
        for listener in self._listeners:
            listener(entry)

    def length(self) -> int:
        """Bytes written so far, on the disk when this returns."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        return self.size()

    def size(self) -> int:
        """Bytes written so far, not necessarily on the disk."""
        self._stream.flush()
        # Not tell(): after a cut and before the next entry it is the length before the cut.
        return os.fstat(self._stream.fileno()).st_size

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
