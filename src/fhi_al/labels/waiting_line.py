"""Structures that wait for a worker, most urgent first.  Pure: knows no worker, computes nothing.

A line for each system, since not every worker computes every system: what is next costs a look at
each line's head, however many structures wait.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from typing import NamedTuple

# Sanity checks behind the others; of these by preference, the lower number first.
Urgency = tuple[bool, int]


class _Place(NamedTuple):
    """What a place is compared by: urgency, then who came first."""

    urgency: Urgency
    number: int
    key: str
    system: int


class WaitingLine:
    """Keys of structures in the order in which they are to be computed."""

    def __init__(self) -> None:
        self._lines: dict[int, list[_Place]] = {}
        self._places: dict[str, _Place] = {}
        self._n_placed = 0

    def __bool__(self) -> bool:
        return bool(self._places)

    def put(self, key: str, system: int, urgency: Urgency) -> None:
        """Behind all that are as urgent; one that is there with this urgency keeps its place."""
        known = self._places.get(key)
        if known is not None and known.urgency == urgency:
            return
        self.discard(key)
        place = _Place(urgency, self._n_placed, key, system)
        self._n_placed += 1
        self._places[key] = place
        insort(self._lines.setdefault(system, []), place)

    def discard(self, key: str) -> None:
        """Take a structure out, if it is there."""
        place = self._places.pop(key, None)
        if place is not None:
            line = self._lines[place.system]
            del line[bisect_left(line, place)]

    def clear(self) -> None:
        """Take all out."""
        self._lines.clear()
        self._places.clear()

    def reorder(self, urgency: Callable[[str], Urgency]) -> None:
        """Give everyone the urgency of now; those that are as urgent keep their order."""
        ordered = sorted(self._places.values(), key=lambda place: (urgency(place.key), place))
        self.clear()
        for place in ordered:
            self.put(place.key, place.system, urgency(place.key))

    def in_order(self) -> list[str]:
        """All keys, most urgent first."""
        return [place.key for place in sorted(self._places.values())]

    def next(
        self, can_begin: Callable[[int], bool], is_wanted: Callable[[str], bool]
    ) -> str | None:
        """The most urgent structure that is wanted, of the systems that can be computed now.

        Parameters
        ----------
        can_begin : callable
            System -> whether a worker is free for it.
        is_wanted : callable
            Key -> bool.
        """
        heads = [
            head
            for system, line in self._lines.items()
            if line and can_begin(system)
            for head in [next((place for place in line if is_wanted(place.key)), None)]
            if head is not None
        ]
        return min(heads).key if heads else None
