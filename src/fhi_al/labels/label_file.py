"""``restart/labels.jsonl`` as a file: its lines, and what they hold for a run.

One JSON object per line (floats as Python writes them, which reads back bit for bit), each with a
CRC.  Nothing is written here but a line that was not written whole, which is cut off.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fhi_al.core.label import Label, Origin
from fhi_al.core.structure import Array

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Rejected:
    """A structure (lengths in A) whose reference result must not be used, and why."""

    key: str
    system: int
    numbers: NDArray[np.int64]
    positions: Array
    cell: Array
    pbc: bool
    origin: Origin
    reason: str


Record = Label | Rejected


class LabelStoreError(RuntimeError):
    """The store on disk is damaged in a way that a killed run cannot explain."""


def require_same_engine(path: Path, engine: str, older: Collection[str] = ()) -> None:
    """Return if a run with this engine can go on with the labels in a file; changes nothing.

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
    LabelFile(path, engine, "", older)


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
            read = _record_in(line)
            if read is None:
                if self._n_good_bytes + len(line) < len(self._content):
                    raise LabelStoreError(
                        f"{self._path}:{number}: damaged line, expected a label as this program "
                        "wrote it. Put the file back from a copy, or delete the line: its label "
                        "is then computed again."
                    )
                self._damaged_line = number
                return
            self._n_good_bytes += len(line)
            self._keep(*read, number)

    def _keep(self, record: Record, engine: str, limits: str | None, line: int) -> None:
        same_engine = self._engine in (None, engine) or engine in self._older
        computed = isinstance(record, Label) and record.origin.phase != "imported"
        if computed and not same_engine:
            raise LabelStoreError(
                f"{self._path}:{line}: this label was computed by another engine, method or "
                "control.in than the present one: expected one set of engine settings for all "
                "labels of a run. Put the settings back as they were (inputs/ has a copy), or "
                "start in a new folder."
            )
        if same_engine and engine in self._older:
            self.older_found.add(engine)
        # Older programs did not write the limits down.
        judged_alike = self._engine is None or (same_engine and limits in (None, self._limits))
        if isinstance(record, Rejected) and not judged_alike:
            return
        self.records[record.key] = record


def line_of(record: Record, engine: str, limits: str) -> bytes:
    values: dict[str, Any] = {
        "key": record.key,
        "engine": engine,
        "origin": asdict(record.origin),
        "system": record.system,
        "numbers": record.numbers.tolist(),
        "positions": record.positions.tolist(),
        "cell": record.cell.tolist(),
        "pbc": record.pbc,
    }
    if isinstance(record, Rejected):
        values["rejected"] = record.reason
        values["limits"] = limits
    else:
        values["energy"] = record.energy
        values["forces"] = record.forces.tolist()
        values["stress"] = None if record.stress is None else record.stress.tolist()
    text = json.dumps(values, separators=(",", ":"))
    return f'{{"crc":{zlib.crc32(text.encode())},"label":{text}}}\n'.encode()


def _record_in(line: bytes) -> tuple[Record, str, str | None] | None:
    """The result in a line, its engine and its limits; None if the line is damaged."""
    try:
        head, text = line.rstrip(b"\n").split(b',"label":', 1)
        crc = int(head.removeprefix(b'{"crc":'))
        text = text.removesuffix(b"}")
        if not line.endswith(b"\n") or zlib.crc32(text) != crc:
            return None
        values = json.loads(text)
    except ValueError:
        return None
    common: dict[str, Any] = {
        "key": values["key"],
        "system": values["system"],
        "numbers": np.array(values["numbers"], dtype=np.int64),
        "positions": np.array(values["positions"]),
        "cell": np.array(values["cell"]),
        "pbc": values["pbc"],
        "origin": Origin(**values["origin"]),
    }
    if "rejected" in values:
        rejected = Rejected(**common, reason=values["rejected"])
        return rejected, values["engine"], values.get("limits")
    stress = values["stress"]
    label = Label(
        **common,
        energy=values["energy"],
        forces=np.array(values["forces"]),
        stress=None if stress is None else np.array(stress),
    )
    return label, values["engine"], None
