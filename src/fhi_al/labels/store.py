"""The append-only store of reference results: on disk, fsynced, before anything else sees them.

Owns ``restart/labels.jsonl``, one line per result (see :mod:`fhi_al.labels.records`).  A result
that was refused is kept too, with the reason, so that a resumed run neither trains on it nor asks
for it again.

No line is ever changed.  Of several lines with one key the last counts, whether it holds another
result (:meth:`LabelStore.replace`) or takes the result away (:meth:`LabelStore.forget`); a line
that a kill left half written never was.  So the file means the same however often it is read, and a
run that is killed between two lines has done the first and not the second.
"""

from __future__ import annotations

import errno
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from fhi_al.core.label import Label
from fhi_al.labels.label_file import Engines, LabelFile, engine_of
from fhi_al.labels.label_file import LabelStoreError as LabelStoreError
from fhi_al.labels.records import Record as Record
from fhi_al.labels.records import Rejected as Rejected
from fhi_al.labels.records import forgotten_line, result_line
from fhi_al.storage.atomic_file import append_whole

log = logging.getLogger(__name__)


class LabelStore:
    """All reference results of a run, by geometry key.

    Parameters
    ----------
    path : Path
        The file; made if it is not there.
    engines : sequence of Fingerprint, or str, or None
        Of each system's engine and its settings, kept with the results of the system; or one text
        for all systems.  None for a run that computes none any more: then nothing can be appended,
        and any engine's results are kept.
    limits : str
        What results are judged by.  A rejection by another engine or other limits is forgotten, so
        that it can be computed again.

    Attributes
    ----------
    older_found : dict
        What older programs called the engines, as far as labels in the file are called so, and
        their present names.

    Raises
    ------
    LabelStoreError
        If a line before the last is damaged, or labels are of another engine.  A damaged last line
        is the call that was in flight when a run was killed: it is cut off with a warning.
    """

    def __init__(
        self,
        path: Path,
        engines: Engines | None = "",
        limits: str = "",
    ) -> None:
        self.path = path
        self._engines = engines
        self._limits = limits
        path.parent.mkdir(parents=True, exist_ok=True)
        read = LabelFile(path, engines, limits)
        self._records = read.records
        self._energies = _EnergySums()
        for record in read.records.values():
            self._energies.add(record)
        self.older_found = read.older_found
        read.cut_off()
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
    def n_imported(self) -> int:
        """Labels the user brought."""
        return len(self._records) - self.n_computed

    @property
    def n_computed(self) -> int:
        """Results the engine computed: all but those the user brought."""
        return self.computed_by_phase().total()

    def computed_by_phase(self) -> Counter[str]:
        """Those of :attr:`n_computed` by the phase that asked for them first."""
        phases = (record.origin.phase for record in self._records.values())
        return Counter(phase for phase in phases if phase != "imported")

    def get(self, key: str) -> Record | None:
        """The result for a geometry; None if it was never computed."""
        return self._records.get(key)

    def mean_energy(self, system: int) -> float | None:
        """Mean energy (eV) of a system's labels; None if there are none."""
        return self._energies.mean(system)

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
        self.replace(record)

    def replace(self, record: Record) -> None:
        """Write one result that counts from here on instead of the one for the same geometry.

        Raises
        ------
        ValueError, OSError
            As :meth:`append`, but for a result that is there.
        """
        if self._engines is None:
            raise ValueError(f"{self.path}: opened by a run that computes no labels any more")
        engine = engine_of(self._engines, record.system)
        if engine is None:
            raise ValueError(f"{self.path}: there is no system {record.system}")
        self._write(record.key, result_line(record, engine.value, self._limits))
        self._energies.remove(self._records.get(record.key))
        self._energies.add(record)
        self._records[record.key] = record

    def forget(self, key: str, reason: str) -> None:
        """Write down that the result for a geometry does not count any more, and why.

        Raises
        ------
        KeyError
            If there is none.
        OSError
            As :meth:`append`.
        """
        if key not in self._records:
            raise KeyError(key)
        self._write(key, forgotten_line(key, reason))
        self._energies.remove(self._records.pop(key))

    def _write(self, key: str, line: bytes) -> None:
        try:
            self.require_in_place()
            append_whole(self._stream, line)
        except OSError as error:
            message = f"{error.strerror}; {_rescued(key, line, self.path)}"
            raise OSError(error.errno, message, str(self.path)) from error

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


class _EnergySums:
    """Number of labels of each system, and the sum of their energies (eV).

    Exact, so that a sum does not depend on what was added and removed in between.
    """

    def __init__(self) -> None:
        self._of: dict[int, tuple[int, Fraction]] = {}

    def add(self, record: Record) -> None:
        self._change(record, 1)

    def remove(self, record: Record | None) -> None:
        self._change(record, -1)

    def mean(self, system: int) -> float | None:
        n_labels, total = self._of.get(system, (0, Fraction()))
        return float(total) / n_labels if n_labels else None

    def _change(self, record: Record | None, sign: int) -> None:
        if isinstance(record, Label):
            n_labels, total = self._of.get(record.system, (0, Fraction()))
            added = sign * Fraction(float(record.energy))
            self._of[record.system] = (n_labels + sign, total + added)


def _rescued(key: str, line: bytes, store: Path) -> str:
    """Put a label that the store could not take elsewhere: it may have cost an hour."""
    path = Path(tempfile.gettempdir()) / f"fhi_al_label_{key}.jsonl"
    try:
        path.write_bytes(line)
    except OSError as error:
        return f"the label is lost ({path}: {error.strerror})"
    return f"the label was saved: when this is fixed, cat {path} >> {store}"
