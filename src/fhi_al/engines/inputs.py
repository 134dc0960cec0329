"""The inputs of a run that describe its systems: geometries and, where needed, control.in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fhi_al.core.structure import Array, Structure
from fhi_al.engines.aims_input.control import Control
from fhi_al.engines.aims_input.geometry import Geometry
from fhi_al.engines.engine import ReferenceEngine

# Positions (n_atoms, 3) and cell (3, 3; zeros for a molecule), in A.
Start = tuple[Array, Array]


@dataclass(frozen=True, eq=False)
class SystemInput:
    """One system of a run.

    Parameters
    ----------
    geometry : Geometry
        Its elements in their order, periodicity, moments, charges and constraints; where its first
        trajectory begins.
    control : Control or None
        None for engines that read none.
    name : str
        Empty if the run has one system, which nobody has named.
    starts : tuple of (positions, cell)
        Where its trajectories begin, in turn; empty: at the geometry.
    arguments : mapping
        Engine arguments of its own, which overrule the common ones.
    moves : bool
        Whether it has trajectories.
    is_apart : bool
        Some of the atoms of other systems, alone and neutral: what the engine is told of a whole
        system (charge, spin, field) must not reach it.
    """

    geometry: Geometry
    control: Control | None = None
    name: str = ""
    starts: tuple[Start, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    moves: bool = True
    is_apart: bool = False

    @property
    def structure(self) -> Structure:
        """Its geometry's."""
        return self.geometry.structure


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a run is about.

    Parameters
    ----------
    each : tuple of SystemInput
        Its systems; those without trajectories come behind those that a run begins with.
    engine : ReferenceEngine or None
        An object in place of an engine that the settings name.
    """

    each: tuple[SystemInput, ...]
    engine: ReferenceEngine | None = None

    @classmethod
    def of(
        cls,
        geometries: Sequence[Geometry],
        control: Control | None = None,
        engine: ReferenceEngine | None = None,
    ) -> Inputs:
        """Systems without a name that have one control.in."""
        return cls(tuple(SystemInput(geometry, control) for geometry in geometries), engine)

    @property
    def geometries(self) -> tuple[Geometry, ...]:
        """Of each system."""
        return tuple(one.geometry for one in self.each)

    @property
    def systems(self) -> tuple[Structure, ...]:
        """The structure of each system."""
        return tuple(one.structure for one in self.each)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the systems."""
        return tuple(one.name for one in self.each)

    @property
    def control(self) -> Control | None:
        """Of the first system; engine kinds see the systems one by one."""
        return self.each[0].control if self.each else None

    @property
    def moving(self) -> tuple[SystemInput, ...]:
        """The systems that have trajectories."""
        return tuple(self.each[place] for place in self.moving_places)

    @property
    def moving_places(self) -> tuple[int, ...]:
        """Their places among all."""
        return tuple(place for place, one in enumerate(self.each) if one.moves)

    def in_order(self, names: Sequence[str]) -> Inputs:
        """The systems of these names first, in their order; the others behind them.

        Labels and states know a system by its place: what a run began with keeps its places.

        Raises
        ------
        KeyError
            With the name of one that is not there.
        """
        by_name = {one.name: one for one in self.each}
        if self.each:  # the only one that may be without a name, or have been
            by_name.setdefault("", self.each[0])
        first = [by_name[name] for name in names]
        others = (one for one in self.each if not any(one is each for each in first))
        return replace(self, each=(*first, *others))

    def one_by_one(self) -> Iterator[Inputs]:
        """Inputs of each system alone."""
        for one in self.each:
            yield replace(self, each=(one,))

    def with_masses(self, masses: Sequence[Array | None]) -> Inputs:
        """The same with other masses of each system's atoms, in u; None for the elements'.

        Systems beyond those that masses are given of keep their own.
        """
        changed = [
            replace(one, geometry=_with_masses(one.geometry, of_atoms))
            for one, of_atoms in zip(self.each, masses, strict=False)
        ]
        return replace(self, each=(*changed, *self.each[len(changed) :]))

    def with_geometries(self, geometries: Sequence[Geometry]) -> Inputs:
        """The same systems with other geometries, one each."""
        pairs = zip(self.each, geometries, strict=True)
        return replace(self, each=tuple(replace(one, geometry=other) for one, other in pairs))


def _with_masses(geometry: Geometry, masses: Array | None) -> Geometry:
    return replace(geometry, structure=replace(geometry.structure, masses=masses))


def elements(inputs: Inputs) -> list[int]:
    """Atomic numbers of all systems, ascending."""
    return sorted({int(z) for one in inputs.each for z in one.structure.numbers})
