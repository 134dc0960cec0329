"""The append-only store of reference results: on disk, fsynced, before anything else sees them.

Owns ``restart/labels.jsonl``: one JSON object per line (floats as Python writes them, which reads
back bit for bit), each with a CRC.  A result that was refused is kept too, with the reason, so that
a resumed run neither trains on it nor asks for it again.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import tempfile
import zlib
from collections.abc import Iterator
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


class LabelStore:
    """All reference results of a run, by geometry key.

    Parameters
    ----------
    path : Path
        The file; made if it is not there.
    engine : str or None
        Fingerprint of the engine and its settings, kept with each result.  None for a run that
        computes none any more: then nothing can be appended, and any engine's results are kept.
    limits : str
        What results are judged by.  A rejection by another engine or other limits is forgotten, so
        that it can be mended.

    Raises
    ------
    LabelStoreError
        If a line before the last is damaged, or labels are of another engine.  A damaged last line
        is the call that was in flight when a run was killed: it is cut off with a warning.
    """

    def __init__(self, path: Path, engine: str | None = "", limits: str = "") -> None:
        self.path = path
        self._engine = engine
        self._limits = limits
        path.parent.mkdir(parents=True, exist_ok=True)
        self._records: dict[str, Record] = {}
        self._read()
        # Unbuffered: what a full disk did not take must not be written by a later call.
        self._stream = path.open("ab", buffering=0)

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def __contains__(self, key: str) -> bool:
        return key in self._records

    @property
    def n_labels(self) -> int:
        """Labels that passed the validation."""
        return sum(isinstance(record, Label) for record in self._records.values())

    @property
    def n_rejected(self) -> int:
        """Results that were refused."""
        return len(self._records) - self.n_labels

    @property
    def n_computed(self) -> int:
        """Results the engine computed: all but those the user brought."""
        return sum(record.origin.phase != "imported" for record in self._records.values())

    def get(self, key: str) -> Record | None:
        """The result for a geometry; None if it was never computed."""
        return self._records.get(key)

    def label(self, key: str) -> Label:
        """The label with this key.

        Raises
        ------
        LabelStoreError
            If it is not there.
        """
        record = self._records.get(key)
        if not isinstance(record, Label):
            raise LabelStoreError(
                f"{self.path}: label {key} is missing though the snapshot uses it: expected every "
                "label of the run in this file. Put the file back from a copy, or remove restart/ "
                "to start afresh."
            )
        return record

    def append(self, record: Record) -> None:
        """Write one result to the disk; it is safe there when this returns.

        Raises
        ------
        ValueError
            If the store has a result for this geometry, or was opened without an engine.
        OSError
            If the disk is full or read-only, or the file is gone; the store is then as before the
            call, and the label saved elsewhere.
        """
        if record.key in self._records:
            raise ValueError(f"{self.path}: there is a result for {record.key} already")
        if self._engine is None:
            raise ValueError(f"{self.path}: opened by a run that computes no labels any more")
        start = self._stream.seek(0, os.SEEK_END)
        line = _line(record, self._engine, self._limits)
        rest = memoryview(line)
        try:
            self.require_in_place()
            while rest:
                rest = rest[self._stream.write(rest) :]
            os.fsync(self._stream.fileno())
        except OSError as error:
            self._stream.truncate(start)
            words = f"{error.strerror}; {_rescued(record.key, line, self.path)}"
            raise OSError(error.errno, words, str(self.path)) from error
        self._records[record.key] = record

    def require_in_place(self) -> None:
        """Return if the file is still where it was opened.

        Raises
        ------
        OSError
            If it was removed or replaced: what is written would be lost.
        """
        try:
            same = os.path.samestat(self.path.stat(), os.fstat(self._stream.fileno()))
        except FileNotFoundError:
            same = False
        if not same:
            raise OSError(errno.ENOENT, "was removed or replaced under the run", str(self.path))

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _read(self) -> None:
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        good = 0
        for number, line in enumerate(content.splitlines(keepends=True), start=1):
            read = _record(line)
            if read is None:
                if good + len(line) < len(content):
                    raise LabelStoreError(
                        f"{self.path}:{number}: damaged line, expected a label as this program "
                        "wrote it. Put the file back from a copy, or delete the line: its label "
                        "is then computed again."
                    )
                log.warning("%s:%d: cut off a label that was not written whole", self.path, number)
                break
            good += len(line)
            self._keep(*read, number)
        if good < len(content):
            os.truncate(self.path, good)

    def _keep(self, record: Record, engine: str, limits: str | None, line: int) -> None:
        same_engine = self._engine in (None, engine)
        computed = isinstance(record, Label) and record.origin.phase != "imported"
        if computed and not same_engine:
            raise LabelStoreError(
                f"{self.path}:{line}: this label was computed by another engine, method or "
                "control.in than the present one: expected one set of engine settings for all "
                "labels of a run. Put the settings back as they were (inputs/ has a copy), or "
                "start in a new folder."
            )
        # Older programs did not write the limits down.
        judged_alike = self._engine is None or (same_engine and limits in (None, self._limits))
        if isinstance(record, Rejected) and not judged_alike:
            return
        self._records[record.key] = record


def _line(record: Record, engine: str, limits: str) -> bytes:
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


def _rescued(key: str, line: bytes, store: Path) -> str:
    """Put a label that the store could not take elsewhere: it may have cost an hour."""
    path = Path(tempfile.gettempdir()) / f"fhi_al_label_{key}.jsonl"
    try:
        path.write_bytes(line)
    except OSError as error:
        return f"the label is lost ({path}: {error.strerror})"
    return f"the label was saved: when this is mended, cat {path} >> {store}"


def _record(line: bytes) -> tuple[Record, str, str | None] | None:
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
