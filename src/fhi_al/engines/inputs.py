"""The inputs of a run that describe its systems: geometry.in and, where needed, control.in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fhi_al.core.errors import InputError
from fhi_al.core.structure import Array, Structure
from fhi_al.engines.aims_input.control import Control, read_control
from fhi_al.engines.aims_input.errors import AimsInputError
from fhi_al.engines.aims_input.geometry import Geometry, read_geometry
from fhi_al.engines.engine import ReferenceEngine


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a run is about.

    Parameters
    ----------
    geometries : tuple of Geometry
        One for each system.
    control : Control or None
        None for engines that read none.
    engine : ReferenceEngine or None
        An object in place of an engine that the settings name.
    """

    geometries: tuple[Geometry, ...]
    control: Control | None
    engine: ReferenceEngine | None = None

    @property
    def systems(self) -> tuple[Structure, ...]:
        """The structure of each geometry.in."""
        return tuple(geometry.structure for geometry in self.geometries)

    def with_masses(self, masses: Sequence[Array | None]) -> Inputs:
        """The same with other masses of each system's atoms, in u; None for the elements'."""
        pairs = zip(self.geometries, masses, strict=True)
        geometries = (
            replace(geometry, structure=replace(geometry.structure, masses=of_atoms))
            for geometry, of_atoms in pairs
        )
        return replace(self, geometries=tuple(geometries))


def read_inputs(folder: Path, *, needs_control: bool) -> Inputs:
    """Read geometry.in, and control.in if the engine needs it.

    Raises
    ------
    InputError
        With the problems of both files.
    """
    problems: list[str] = []
    control = None
    if needs_control:
        try:
            control = read_control(folder / "control.in")
        except AimsInputError as error:
            problems.append(str(error))
    geometries: tuple[Geometry, ...] = ()
    try:
        nuclei = control.nuclei if control else None
        geometries = (read_geometry(folder / "geometry.in", nuclei),)
    except AimsInputError as error:
        problems.append(str(error))
    if problems:
        raise InputError(problems)
    return Inputs(geometries, control)


def elements(inputs: Inputs) -> list[int]:
    """Atomic numbers of all systems, ascending."""
    return sorted({int(z) for g in inputs.geometries for z in g.structure.numbers})
