"""The displaced structures of a run in the order in which they get labels.  Pure: numpy.

The same list at every start: it is drawn anew from its seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

from fhi_al.core.displaced import (
    MIXING_SYSTEMS,
    Displaced,
    DisplacedRule,
    DisplacedSystem,
    Kind,
    displaced,
    mixed,
)
from fhi_al.core.plausible import GeometryLimits


@dataclass(frozen=True, eq=False)
class DisplacedList:
    """Displaced structures of all systems, evenly mixed.

    Parameters
    ----------
    systems : sequence of DisplacedSystem
    rules : sequence of DisplacedRule
        One for each system.
    limits : GeometryLimits
        No structure has overlaps.
    cutoff : float
        In A.
    goes_on : bool
        When all have been taken, further ones are drawn (rattled and strained).
    others : callable
        Gives further lists of structures for the first list, each in its own order: dimers,
        vacancies.
    """

    systems: Sequence[DisplacedSystem]
    rules: Sequence[DisplacedRule]
    limits: GeometryLimits
    cutoff: float
    goes_on: bool
    others: Callable[[], Sequence[Sequence[Displaced]]] = tuple

    @cached_property
    def first(self) -> list[Displaced]:
        """The list without what is drawn when it has been used up.

        Raises
        ------
        CannotDisplace
            If structures of a system overlap nearly always.
        """
        return self._batch(0)

    def only(self, systems: Collection[int]) -> DisplacedList:
        """The list of some systems, by their places; itself for none."""
        if not systems:
            return self
        pairs = zip(self.systems, self.rules, strict=True)
        chosen = [(system, rule) for system, rule in pairs if system.index in systems]
        return replace(
            self,
            systems=[system for system, _ in chosen],
            rules=[rule for _, rule in chosen],
            others=partial(_of_systems, self.others, frozenset(systems)),
        )

    def structure(self, number: int) -> Displaced | None:
        """The structure with a number, counted from 0; None if the list is used up.

        Raises
        ------
        CannotDisplace
            As :attr:`first`.
        """
        if number < len(self.first):
            return self.first[number]
        if not self.goes_on:
            return None
        number -= len(self.first)
        further = self._further(1)
        return self._further(1 + number // len(further))[number % len(further)]

    def described(self) -> str:
        """How many of each kind the list has, and whether it goes on."""
        found = Counter(each.kind for each in self.first)
        counts = ", ".join(f"{found[kind]} {kind}" for kind in Kind if found[kind])
        return counts + ("; further ones when these are used up" if self.goes_on else "")

    def _further(self, batch: int) -> list[Displaced]:
        if batch not in self._drawn:
            self._drawn[batch] = self._batch(batch)
        return self._drawn[batch]

    @cached_property
    def _drawn(self) -> dict[int, list[Displaced]]:
        return {}

    def _batch(self, batch: int) -> list[Displaced]:
        lists = [
            displaced(system, rule, self.limits, self.cutoff, batch)
            for system, rule in zip(self.systems, self.rules, strict=True)
        ]
        if batch == 0:
            lists += [list(each) for each in self.others()]
        return mixed(lists, self.rules[0].seed, MIXING_SYSTEMS, batch)


def _of_systems(
    others: Callable[[], Sequence[Sequence[Displaced]]], systems: Collection[int]
) -> list[list[Displaced]]:
    """What of further lists is of some systems."""
    return [[each for each in one if each.system in systems] for one in others()]
