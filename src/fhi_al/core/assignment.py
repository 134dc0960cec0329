"""Which trajectory runs which system under which MD block: the same at every start.  Pure: numpy.

Whatever moves (the sampling of the initial dataset, active learning, the test of the finished
models) takes its trajectories from one table of assignments.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from fhi_al.core.trajectory import TrajectoryState


@dataclass(frozen=True)
class Assignment:
    """A system, the MD block that it moves under, and where it starts, by their indices."""

    system: int
    md: int
    start: int = 0


@dataclass(frozen=True)
class Conditions:
    """What the trajectories of a system have.

    Parameters
    ----------
    system : int
    blocks : tuple of int
        MD blocks.
    n_starts : int
        Starting geometries.
    """

    system: int
    blocks: tuple[int, ...]
    n_starts: int = 1

    def assignment(self, number: int) -> Assignment:
        """Of the trajectory with this number, of those of the system.

        Blocks and starts take turns, shifted against each other when all pairs of one shift are
        there: so every start comes under every block.
        """
        n_blocks = len(self.blocks)
        shift = number // math.lcm(n_blocks, self.n_starts)
        return Assignment(
            self.system, self.blocks[number % n_blocks], (number + shift) % self.n_starts
        )


def assignments(systems: Sequence[Conditions], counts: Sequence[int]) -> tuple[Assignment, ...]:
    """The table: one trajectory of each system after the other, as many as each has.

    Parameters
    ----------
    systems : sequence of Conditions
    counts : sequence of int
        Trajectories of each.
    """
    rounds = max(counts, default=0)
    return tuple(
        system.assignment(number)
        for number in range(rounds)
        for system, count in zip(systems, counts, strict=True)
        if number < count
    )


def one_of_each(systems: Sequence[Conditions]) -> tuple[Assignment, ...]:
    """The shortest table with every block and every start of every system."""
    return assignments(systems, [max(len(each.blocks), each.n_starts) for each in systems])


def trajectories_of(table: Sequence[Assignment], first: int = 0) -> tuple[TrajectoryState, ...]:
    """Trajectories that have not moved yet, numbered from `first`."""
    return tuple(
        TrajectoryState(index, turn.system, turn.md, start=turn.start)
        for index, turn in enumerate(table, start=first)
    )


def some_of_each(table: Sequence[Assignment], most: int) -> tuple[Assignment, ...]:
    """At most so many of a table, or one for each system and block, if these are more."""
    seen: set[tuple[int, int]] = set()
    first: list[Assignment] = []
    others: list[Assignment] = []
    for each in table:
        (others if (each.system, each.md) in seen else first).append(each)
        seen.add((each.system, each.md))
    return tuple((first + others)[: max(most, len(first))])


class Turns:
    """Whose turn it is to give a point to the initial dataset.

    Parameters
    ----------
    systems : sequence of int
        System of each trajectory.
    shares : sequence of float
        Of the points, for each of these systems in ascending order; in any unit.
    n_members : int

    Notes
    -----
    Points are shared out to the members in turn, and every tenth, say, is validated on.  Each
    trajectory gives one point to every member before the next is due.  Systems take turns by their
    shares, and so do the trajectories of a system, in orders that are drawn anew when all have had
    their turn: so every member has points of all, and validates on any of them.
    """

    def __init__(self, systems: Iterable[int], shares: Sequence[float], n_members: int) -> None:
        groups: dict[int, list[int]] = {}
        for trajectory, system in enumerate(systems):
            groups.setdefault(system, []).append(trajectory)
        self._groups = [groups[system] for system in sorted(groups)]
        self._n_members = n_members
        total = math.fsum(shares)
        self._shares = [share / total for share in shares]
        # In so many places even the system with the smallest share has its turn.
        self._cycle = min(_LONGEST_CYCLE, round(1 / min(self._shares)))
        # Group of each place so far, and how many places of its group came before.
        self._places: list[tuple[int, int]] = []
        self._counts = [0] * len(self._groups)

    def trajectory(self, n_sampled: int) -> int:
        """The trajectory that the next point is of, after `n_sampled` points."""
        place = n_sampled // self._n_members
        while len(self._places) <= place:
            self._add_cycle()
        group, turn_of_group = self._places[place]
        trajectories = self._groups[group]
        turn, within = divmod(turn_of_group, len(trajectories))
        return trajectories[_order(len(trajectories), turn)[within]]

    def _add_cycle(self) -> None:
        """Places for the systems that are farthest behind their shares, in an order that is drawn.

        In one order every tenth point, say, would be of the same system.
        """
        counts, groups = list(self._counts), []
        for n in range(len(self._places) + 1, len(self._places) + self._cycle + 1):
            pairs = zip(self._shares, counts, strict=True)
            behind = [round(share * n - count, 9) for share, count in pairs]
            groups.append(behind.index(max(behind)))
            counts[groups[-1]] += 1
        for place in _order(len(groups), len(self._places), 1):
            group = groups[place]
            self._places.append((group, self._counts[group]))
            self._counts[group] += 1


_LONGEST_CYCLE = 1000


def _order(n: int, *seed: int) -> list[int]:
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    order: list[int] = generator.permutation(n).tolist()
    return order
