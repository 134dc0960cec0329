"""Who did what when: ``report/activity.jsonl``, counters of a run's ranks as time goes on.

Owns that file.  It is no part of a run's state: nothing reads it but the report, and a run whose
disk does not take it goes on without.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fhi_al.report.clock import ACTIVITIES, Clock
from fhi_al.report.journal import Journal

log = logging.getLogger(__name__)

# Of a run's folder: the report, and what is kept for it alone.
REPORT_FOLDER = "report"
ACTIVITY = "activity.jsonl"
# Of the time that has passed, but not below the other: a week is two thousand lines.
_SHARE, _LEAST_S = 0.005, 0.5
# Kind of work -> rank -> seconds in this launch that are finished.
Busy = Mapping[str, dict[int, float]]


class ActivityRecord:
    """Adds a line now and then: seconds since the launch, and what the counters say.

    Parameters
    ----------
    path : Path
        Made, with its folder, if it is not there.
    clock : Clock
        What rank 0 does.
    journal : Journal
        Its length says when each of its entries was written.
    busy : callable
        What the other ranks have done.
    n_labels : callable
        Labels so far.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        journal: Journal,
        busy: Callable[[], Busy],
        n_labels: Callable[[], int],
    ) -> None:
        self._path = path
        self._clock = clock
        self._journal = journal
        self._busy = busy
        self._n_labels = n_labels
        self._is_broken = False
        self._started = time.perf_counter()
        self._due_s = 0.0
        self._before: dict[str, dict[str, float]] = {}

    def begin(self, roles: Sequence[str]) -> None:
        """A launch begins, with ranks of these roles; from here on the clock is listened to."""
        self._append(
            {
                "launch": time.time(),
                "roles": list(roles),
                "journal": self._journal.size(),
                "n_labels": self._n_labels(),
            }
        )
        self._clock.listen(self.look)

    def look(self) -> None:
        """Add a line if one is due."""
        now_s = time.perf_counter() - self._started
        if now_s >= self._due_s and not self._is_broken:
            self._due_s = now_s + max(_LEAST_S, _SHARE * now_s)
            self._add(now_s)

    def close(self) -> None:
        """The last line of the launch."""
        if not self._is_broken:
            self._add(time.perf_counter() - self._started)

    def _add(self, now_s: float) -> None:
        rank_0 = self._clock.in_this_launch()
        counters = {"rank 0": {name: rank_0[name] for name in ACTIVITIES}}
        for kind, seconds in self._busy().items():
            counters[kind] = {str(rank): each for rank, each in seconds.items()}
        line: dict[str, Any] = {
            "s": round(now_s, 2),
            "journal": self._journal.size(),
            "n_labels": self._n_labels(),
        }
        for kind, each in counters.items():
            before = self._before.get(kind, {})
            line[kind] = {
                name: round(value, 3) for name, value in each.items() if value != before.get(name)
            }
        self._before = counters
        self._append(line)

    def _append(self, line: dict[str, Any]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as stream:
                stream.write(json.dumps(line, separators=(",", ":")) + "\n")
        except OSError as error:
            self._is_broken = True
            log.warning(
                "%s: %s: the report of this launch will not say who did what when",
                self._path,
                error.strerror or error,
            )


@dataclass(frozen=True)
class Look:
    """The counters at one time of a launch.

    Parameters
    ----------
    at_s : float
        Since the launch.
    journal_bytes, n_labels : int
    busy : dict
        Kind of work, or "rank 0" -> rank, or activity of rank 0 -> seconds so far.
    """

    at_s: float
    journal_bytes: int
    n_labels: int
    busy: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Launch:
    """What a launch of a run left.

    Parameters
    ----------
    began : float
        Unix time.
    roles : tuple of str
        Of each rank.
    journal_bytes : int
        Length of the journal that it continued.
    looks : list of Look
        In order.
    """

    began: float
    roles: tuple[str, ...]
    journal_bytes: int
    looks: list[Look] = field(default_factory=list)

    @property
    def lasted_s(self) -> float:
        """Up to its last line, which one that was killed did not live to write."""
        return self.looks[-1].at_s if self.looks else 0.0


def read_activity(path: Path) -> list[Launch]:
    """The launches of a run; none if there is no record.  A damaged line is left out."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return []
    launches: list[Launch] = []
    busy: dict[str, dict[str, float]] = {}
    for text in lines:
        try:
            line = json.loads(text)
            if "launch" in line:
                launches.append(Launch(line["launch"], tuple(line["roles"]), line["journal"]))
                busy = {}
                continue
            head = {key: line.pop(key) for key in ("s", "journal", "n_labels")}
            for kind, changed in line.items():
                busy[kind] = busy.get(kind, {}) | changed
            look = Look(head["s"], head["journal"], head["n_labels"], dict(busy))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        if launches:
            launches[-1].looks.append(look)
    return launches


def seconds_of_entries(launches: Sequence[Launch], ends: Sequence[int]) -> list[float | None]:
    """When entries of the journal were written, in seconds over all launches.

    Parameters
    ----------
    launches : sequence of Launch
    ends : sequence of int
        Bytes of the journal up to and with each entry, in order.

    Returns
    -------
    list of float or None
        None where no launch that kept a record wrote it.  What a launch wrote that was killed, and
        the next one cut off, does not count: its time does.
    """
    # (bytes, seconds), both increasing
    known: list[tuple[int, float]] = []
    floors: list[int] = []
    past_s = 0.0
    for launch in launches:
        while known and known[-1][0] > launch.journal_bytes:
            known.pop()
            floors.pop()
        for look in launch.looks:
            if look.journal_bytes > launch.journal_bytes:
                known.append((look.journal_bytes, past_s + look.at_s))
                floors.append(launch.journal_bytes)
        past_s += launch.lasted_s
    found: list[float | None] = []
    place = 0
    for end in ends:
        while place < len(known) and known[place][0] < end:
            place += 1
        inside = place < len(known) and floors[place] < end
        found.append(known[place][1] if inside else None)
    return found
