"""The structure that a new run begins with: read from any file, written as geometry.in."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from fhi_al.app.new_run.supercell import repeated
from fhi_al.app.structures import geometry_of
from fhi_al.app.systems import is_aims_format
from fhi_al.core.errors import InputError
from fhi_al.core.structure import Structure
from fhi_al.engines.aims_input.errors import AimsInputError
from fhi_al.engines.aims_input.geometry import Geometry, read_geometry, write_geometry
from fhi_al.labels.atoms_file import cell_problems

HYDROGEN = 1
HEAVY = 18  # from potassium on, vibrations are slow


@dataclass(frozen=True, eq=False)
class StartingStructure:
    """The structure that MD begins with.

    Parameters
    ----------
    geometry : Geometry
    text : str
        Of geometry.in.
    where : str
        Where it comes from, in words.
    charge : float or None
        Total charge in e, where the file says one.
    """

    geometry: Geometry
    text: str
    where: str
    charge: float | None

    @property
    def structure(self) -> Structure:
        """Elements, positions, cell."""
        return self.geometry.structure

    @property
    def origin(self) -> str:
        """What it is and where it comes from, in words."""
        kind = "a crystal" if self.structure.pbc else "a molecule"
        return f"{self.formula}, {len(self.structure)} atoms, {kind} ({self.where})"

    def repeated(self, counts: tuple[int, int, int]) -> StartingStructure:
        """A supercell of it.

        Parameters
        ----------
        counts : tuple of 3 int
            Cells along each vector.
        """
        if math.prod(counts) == 1:
            return self
        where = f"{' x '.join(map(str, counts))} cells of {self.where}"
        geometry = repeated(self.geometry, counts)
        charge = None if self.charge is None else self.charge * math.prod(counts)
        return StartingStructure(geometry, _text(geometry, where), where, charge)

    @property
    def formula(self) -> str:
        """Such as C2H6O; of a crystal of its formula unit, such as LiF."""
        formula = Atoms(self.structure.numbers).symbols.formula
        if self.structure.pbc:
            return str(formula.reduce()[0].format("periodic"))
        return str(formula.format("hill"))

    @property
    def timestep(self) -> float:
        """A time step of MD in fs that its lightest atoms allow."""
        lightest = int(self.structure.numbers.min())
        if lightest == HYDROGEN:
            return 0.5
        return 2.0 if lightest > HEAVY else 1.0


def read_start(path: Path, frame: int | None) -> StartingStructure:
    """Read one structure of a file.

    Parameters
    ----------
    path : Path
        In FHI-aims' format (``*.in``), which is kept as it is, or any that ASE reads.
    frame : int or None
        Of several, counted from 0, or from the end if negative; None for the last one.

    Raises
    ------
    InputError
        If there is no such file or frame, or it makes no geometry.in.
    """
    if not path.is_file():
        raise InputError([f"--geometry {path}: no such file: expected a structure. Correct it."])
    if is_aims_format(path):
        return _as_it_is(path)
    # Late: ASE's readers take time to import.
    from ase.io import read

    try:
        frames: Any = read(path, index=":")
    except Exception as error:  # of ASE's many readers
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise InputError(
            [
                f"--geometry {path}: cannot be read as a structure ({what}): expected FHI-aims'"
                " format in a file *.in, or a format that ASE knows by the file's name. Correct"
                " the file, or its name."
            ]
        ) from error
    number = len(frames) - 1 if frame is None else frame
    if not -len(frames) <= number < len(frames):
        raise InputError(
            [
                f"--frame {frame}: {path} has {len(frames)} frame(s): expected 0 to"
                f" {len(frames) - 1}, or -1 for the last one."
            ]
        )
    atoms: Atoms = frames[number]
    where = path.name
    if len(frames) > 1:
        where = f"frame {number % len(frames)} of 0 to {len(frames) - 1} of {path.name}"
    problems = [f"--geometry {where}: {problem}." for problem in _problems(atoms)]
    if problems:
        raise InputError(problems)
    # Said of partly periodic structures and of constraints that MD cannot keep.
    geometry = geometry_of(atoms, where)
    charge = atoms.info.get("charge", atoms.info.get("total_charge"))
    if charge is None and atoms.has("initial_charges"):
        charge = atoms.get_initial_charges().sum()
    return StartingStructure(geometry, _text(geometry, where), where, _number(charge))


def _as_it_is(path: Path) -> StartingStructure:
    try:
        geometry = read_geometry(path)
    except AimsInputError as error:
        raise InputError([str(error)]) from error
    charges = geometry.structure.initial_charges
    charge = charges.sum() if charges.any() else None
    text = path.read_text(encoding="utf-8")
    return StartingStructure(geometry, text, path.name, _number(charge))


def _problems(atoms: Atoms) -> Iterator[str]:
    if len(atoms) == 0:
        yield "has no atoms: expected at least one. Take another file or frame"
        return
    if (atoms.numbers < 1).any():
        first = int(np.argmax(atoms.numbers < 1))
        yield f"atom {first + 1} is no element: expected symbols of elements. Correct it"
    if not np.isfinite(atoms.positions).all():
        yield "a position is not finite: expected numbers in A. Correct it"
    yield from cell_problems(atoms)


def _text(geometry: Geometry, where: str) -> str:
    """geometry.in with fixed atoms, initial charges and moments."""
    head = f"Written by FHI_AL-init from {where}"
    return write_geometry(geometry, head, constraints=True)


def _number(charge: object) -> float | None:
    try:
        value = float(charge)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return round(value, 6) if np.isfinite(value) else None
