"""A run as the report sees it: what its folder holds, read without changing anything in it.

Owns nothing.  What is damaged or missing is left out, and the report says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fhi_al.core.label import Label
from fhi_al.core.run_state import RunState, Stage
from fhi_al.labels.records import Record, Rejected, read_line
from fhi_al.report.activity import Launch, seconds_of_entries
from fhi_al.report.journal import Entry
from fhi_al.report.predictions import Predicted

# What earlier programs did not write of an entry, and what it was with them.
_NOT_WRITTEN: dict[str, Entry] = {
    "check": {"md": "", "system": ""},
    "ensemble": {"by_system": []},
    "test": {"system": ""},
}


@dataclass(frozen=True)
class Events:
    """What happened in a run: the entries of its journal, and when each was written.

    Parameters
    ----------
    entries : list of Entry
    ends : list of int
        Bytes of the journal up to and with each.
    """

    entries: list[Entry] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def of(self, kind: str) -> list[Entry]:
        """The entries of a kind, in order."""
        return [entry for entry in self.entries if entry["kind"] == kind]


@dataclass(frozen=True, eq=False)
class RunRecord:
    """Everything that the report is made from.

    Parameters
    ----------
    folder : Path
    state : RunState or None
        Of the newest snapshot; None before the first one.
    settings : mapping
        Key -> value, as the snapshot has them; empty before the first one.
    names : tuple of str
        Of the systems; one empty name if the run has one without a name.
    sets : sequence of (training, validation)
        Keys of the labels of each member.
    labels : sequence of Label or Rejected
        In the order in which they were stored.
    events : Events
    launches : sequence of Launch
        Who did what when.
    predictions : mapping
        Phase ("initial", "final") -> predictions, and the labels of each set.
    versions : mapping
        Package -> version.
    inputs : sequence of (name, text)
        The files that it was started with.
    last_sign : float or None
        Unix time at which it last wrote a label, an entry or a snapshot.
    notes : sequence of str
        What could not be read.
    """

    folder: Path
    state: RunState | None
    settings: Mapping[str, Any]
    names: tuple[str, ...]
    sets: Sequence[tuple[Sequence[str], Sequence[str]]]
    labels: Sequence[Record]
    events: Events
    launches: Sequence[Launch]
    predictions: Mapping[str, tuple[Sequence[Predicted], Mapping[str, int]]]
    versions: Mapping[str, str]
    inputs: Sequence[tuple[str, str]]
    last_sign: float | None
    notes: Sequence[str] = ()

    @property
    def wanted_error(self) -> float | None:
        """The force MAE in eV/A at which active learning was to stop; None: none was given."""
        wanted = self.settings.get("ACTIVE_LEARNING.desired_acc")
        return float(wanted) if isinstance(wanted, int | float) and wanted > 0 else None

    @property
    def name(self) -> str:
        """What the run is called."""
        return str(self.settings.get("GENERAL.name_exp") or self.folder.resolve().name)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.state is not None and self.state.stage is Stage.DONE

    @property
    def good(self) -> list[Label]:
        """The labels that count."""
        return [record for record in self.labels if isinstance(record, Label)]

    @property
    def discarded(self) -> list[Rejected]:
        """The results that were refused."""
        return [record for record in self.labels if isinstance(record, Rejected)]

    def system_name(self, system: int | str) -> str:
        """Of a system by its index: its own, or the formula of its labels; a name as it is."""
        if isinstance(system, str):
            return system
        given = self.names[system] if system < len(self.names) else ""
        return given or self._formulas.get(system, f"system {system}")

    @cached_property
    def _formulas(self) -> dict[int, str]:
        from ase.symbols import Symbols

        first = {record.system: record for record in reversed(self.labels)}
        return {
            system: Symbols(record.numbers).get_chemical_formula(mode="metal")
            for system, record in first.items()
        }

    @cached_property
    def entry_seconds(self) -> list[float | None]:
        """When each entry of the journal was written, over all launches; None if not known."""
        return seconds_of_entries(self.launches, self.events.ends)

    @property
    def timestep_fs(self) -> float | None:
        """Of MD, if all blocks have the same."""
        return _only(self._md("timestep"))

    @property
    def temperature_k(self) -> float | None:
        """Of MD, if all blocks have the same and no schedule."""
        return _only(self._md("temperature"))

    def _md(self, key: str) -> list[Any]:
        return [
            value
            for name, value in self.settings.items()
            if name.startswith("MD") and name.endswith(f".{key}")
        ]


def _only(values: Sequence[Any]) -> float | None:
    if values and isinstance(values[0], int | float) and all(one == values[0] for one in values):
        return float(values[0])
    return None


def read_events(path: Path) -> tuple[Events, int]:
    """The journal, and how many of its lines are damaged; nothing if it is not there."""
    events, damaged, end = Events(), 0, 0
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError:
        return events, 0
    for line in lines:
        end += len(line)
        try:
            entry = json.loads(line)
            entry = _NOT_WRITTEN.get(entry["kind"], {}) | entry
        except (ValueError, KeyError, TypeError):
            # The last one may be being written.
            damaged += line.endswith(b"\n")
            continue
        events.entries.append(entry)
        events.ends.append(end)
    return events, damaged


def read_labels(path: Path) -> tuple[list[Record], int]:
    """The labels of a store that may be in use, and how many lines are damaged."""
    records: dict[str, Record] = {}
    damaged = 0
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError:
        return [], 0
    for line in lines:
        found = read_line(line)
        if found is None:
            damaged += line.endswith(b"\n")
        elif found.record is None:
            records.pop(found.key, None)
        else:
            records[found.key] = found.record
    return list(records.values()), damaged
