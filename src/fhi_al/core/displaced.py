"""Structures without MD: rattled positions, strained cells, volume scans.  Pure: numpy.

Everything is drawn from one seed; nothing here depends on the order in which it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np

from fhi_al.core.derived import dimer_distances, dimer_positions, order_without
from fhi_al.core.diversity import farthest_first, fingerprints_of_any
from fhi_al.core.environments import radial_descriptors
from fhi_al.core.plausible import GeometryLimits, geometry_problem
from fhi_al.core.structure import Array, Structure

# Of random structures so many are drawn for each one that is taken.
CHOICE = 3
# Draws in a row that overlap: the displacements are too large for the system.
_MOST_DRAWS = 200
# Larger systems differ little from draw to draw: they are not chosen from.
_MANY_ATOMS = 300
# Purposes of random streams besides the kinds.
_MIXING, MIXING_SYSTEMS = 90, 91

Item = TypeVar("Item")


class Kind(StrEnum):
    """What has been done to a structure; :data:`fhi_al.core.label.DISPLACED_KINDS`."""

    RATTLED = "rattled"
    STRAINED = "strained"
    VOLUME = "volume"
    DIMER = "dimer"
    VACANCY = "vacancy"


@dataclass(frozen=True)
class DisplacedRule:
    """How many structures of a system are made of each kind, and how far they are displaced.

    Parameters
    ----------
    rattled, strained, volumes : int
    strain : float
        Largest component of the strain.
    volume_range : (float, float)
        Smallest and largest volume of the scan, in those of the cell.
    seed : int
    """

    rattled: int
    strained: int
    volumes: int
    strain: float
    volume_range: tuple[float, float]
    seed: int


@dataclass(frozen=True, eq=False)
class Displaced:
    """A displaced structure.

    Parameters
    ----------
    kind : Kind
    system : int
        What its label is of.
    positions : (n_atoms, 3)
        In A.
    cell : (3, 3)
        In A; zeros for a molecule.
    """

    kind: Kind
    system: int
    positions: Array
    cell: Array


@dataclass(frozen=True, eq=False)
class DisplacedSystem:
    """A system whose structures are displaced.

    Parameters
    ----------
    index : int
        Its place among the systems; part of what the random numbers depend on.
    starts : sequence of Structure
        Its starting geometries, which take turns.
    amplitudes : sequence of (n_atoms,)
        Standard deviation of each coordinate of an atom when it is rattled, in A; of each start.
    radii : (n_atoms,)
        Covalent radii in A.
    """

    index: int
    starts: Sequence[Structure]
    amplitudes: Sequence[Array]
    radii: Array


class CannotDisplace(ValueError):
    """No structure of a kind can be made without overlaps."""


def displaced(
    system: DisplacedSystem,
    rule: DisplacedRule,
    limits: GeometryLimits,
    cutoff: float,
    batch: int = 0,
) -> list[Displaced]:
    """A system's structures: of each kind the most different first, the kinds mixed evenly.

    Parameters
    ----------
    system : DisplacedSystem
    rule : DisplacedRule
    limits : GeometryLimits
        No structure has overlaps.
    cutoff : float
        In A: what is farther apart makes no difference.
    batch : int
        0, or the number of a further list, which has rattled and strained structures only, others
        than those before.

    Raises
    ------
    CannotDisplace
        If displacements are so large that atoms overlap nearly always.
    """
    draw = _Draw(system, rule, limits)
    kinds: dict[Kind, list[Displaced]] = {}
    for kind, n, make in (
        (Kind.RATTLED, rule.rattled, draw.rattled),
        (Kind.STRAINED, rule.strained, draw.strained),
    ):
        if kind is Kind.STRAINED and not system.starts[0].pbc:
            continue
        choice = CHOICE if len(system.radii) <= _MANY_ATOMS else 1
        candidates = list(draw.accepted(kind, batch, choice * n, make))
        kinds[kind] = _most_different(system, candidates, cutoff)[:n]
    if batch == 0 and system.starts[0].pbc:
        kinds[Kind.VOLUME] = _most_different(system, list(draw.volumes()), cutoff)
    return mixed(list(kinds.values()), rule.seed, system.index, _MIXING, batch)


@dataclass(frozen=True)
class Vacancy:
    """An atom that is taken out of a system, and the system that is left, by their indices."""

    site: int
    system: int


def vacancies(
    system: DisplacedSystem, rule: DisplacedRule, limits: GeometryLimits, out: Sequence[Vacancy]
) -> list[Displaced]:
    """Rattled crystals without one atom.

    Parameters
    ----------
    system : DisplacedSystem
        The whole crystal.
    rule : DisplacedRule
    limits : GeometryLimits
        No structure has overlaps.
    out : sequence of Vacancy

    Raises
    ------
    CannotDisplace
        As :func:`displaced`.
    """
    draw = _Draw(system, rule, limits)
    return [draw.without(vacancy, number) for number, vacancy in enumerate(out)]


def dimers(system: int, contact: float, cutoff: float, n: int) -> list[Displaced]:
    """Two atoms at distances from contact up to a cutoff, the most different first.

    Parameters
    ----------
    system : int
        Index of the dimer's system.
    contact, cutoff : float
        In A.
    n : int
    """
    distances = dimer_distances(contact, cutoff, n)
    order = farthest_first(np.log(np.array(distances))[:, None], np.empty((0, 1)))
    return [
        Displaced(Kind.DIMER, system, dimer_positions(distances[k]), np.zeros((3, 3)))
        for k in order
    ]


def mixed(lists: Sequence[Sequence[Item]], *seed: int) -> list[Item]:
    """Lists as one in which each, in its own order, is spread evenly.

    By stratified random places, not in turn: who takes every tenth, say, gets some of each.
    """
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    placed = []
    for items in lists:
        offsets = generator.random(len(items)).tolist()
        for k, (offset, item) in enumerate(zip(offsets, items, strict=True)):
            placed.append(((k + offset) / len(items), item))
    return [item for _, item in sorted(placed, key=lambda pair: pair[0])]


def volume_factors(n: int, limits: tuple[float, float]) -> list[float]:
    """Volumes of a scan in those of the cell, evenly spaced, both ends among them."""
    if n == 1:
        return [0.5 * (limits[0] + limits[1])]
    return [float(factor) for factor in np.linspace(*limits, n)]


class _Draw:
    """Draws structures of one system that have no overlaps."""

    def __init__(
        self, system: DisplacedSystem, rule: DisplacedRule, limits: GeometryLimits
    ) -> None:
        self._system = system
        self._rule = rule
        self._limits = limits

    def accepted(
        self,
        kind: Kind,
        batch: int,
        n: int,
        make: Callable[[np.random.Generator, int], Displaced],
        radii: Array | None = None,
    ) -> Iterator[Displaced]:
        number = list(Kind).index(kind)
        seed = [self._rule.seed, self._system.index, number, batch]
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
        for k in range(n):
            for _ in range(_MOST_DRAWS):
                found = make(generator, k % len(self._system.starts))
                problem = self.problem(found, radii)
                if problem is None:
                    yield found
                    break
            else:
                raise CannotDisplace(
                    f"{kind} structures: of {_MOST_DRAWS} draws in a row none makes sense, the "
                    f"last because {problem}"
                )

    def without(self, vacancy: Vacancy, number: int) -> Displaced:
        """The rattled crystal without an atom, of a starting geometry in turn."""
        start = number % len(self._system.starts)
        own = self._system.starts[start]
        order = order_without(own, vacancy.site)

        def make(generator: np.random.Generator, _start: int) -> Displaced:
            positions = own.positions + self._steps(generator, start)
            return Displaced(Kind.VACANCY, vacancy.system, positions[order], own.cell)

        (found,) = self.accepted(Kind.VACANCY, number, 1, make, self._system.radii[order])
        return found

    def problem(self, found: Displaced, radii: Array | None = None) -> str | None:
        radii = self._system.radii if radii is None else radii
        pbc = self._system.starts[0].pbc
        return geometry_problem(found.positions, found.cell, pbc, radii, self._limits)

    def rattled(self, generator: np.random.Generator, start: int) -> Displaced:
        own = self._system.starts[start]
        positions = own.positions + self._steps(generator, start)
        return Displaced(Kind.RATTLED, self._system.index, positions, own.cell)

    def strained(self, generator: np.random.Generator, start: int) -> Displaced:
        own = self._system.starts[start]
        strain = generator.uniform(-self._rule.strain, self._rule.strain, (3, 3))
        upper = np.triu(strain)
        deformation = np.eye(3) + upper + np.triu(strain, 1).T
        positions = own.positions @ deformation + self._steps(generator, start)
        return Displaced(Kind.STRAINED, self._system.index, positions, own.cell @ deformation)

    def volumes(self) -> Iterator[Displaced]:
        """Of the first start; without those that overlap."""
        own = self._system.starts[0]
        for factor in volume_factors(self._rule.volumes, self._rule.volume_range):
            length = factor ** (1 / 3)
            scaled = own.positions * length, own.cell * length
            found = Displaced(Kind.VOLUME, self._system.index, *scaled)
            if self.problem(found) is None:
                yield found

    def _steps(self, generator: np.random.Generator, start: int) -> Array:
        own = self._system.starts[start]
        steps = generator.standard_normal((len(own), 3))
        steps *= self._system.amplitudes[start][:, None]
        steps[own.fixed] = 0.0
        return steps


def _most_different(
    system: DisplacedSystem, structures: Sequence[Displaced], cutoff: float
) -> list[Displaced]:
    """The structures, each the farthest from the system's own geometries and those before it."""
    if not structures:
        return []
    own = system.starts
    numbers = own[0].numbers
    elements = sorted(set(numbers.tolist()))
    everything = [
        *((s.positions, s.cell) for s in own),
        *((s.positions, s.cell) for s in structures),
    ]
    features = [
        radial_descriptors(numbers, positions, cell, own[0].pbc, elements, cutoff)
        for positions, cell in everything
    ]
    points = fingerprints_of_any(features, [numbers] * len(features))
    order = farthest_first(points[len(own) :], points[: len(own)])
    return [structures[k] for k in order]
