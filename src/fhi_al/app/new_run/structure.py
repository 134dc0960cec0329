"""The structure that a new run begins with: read from any file, written as geometry.in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

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
    structure : Structure
    text : str
        Of geometry.in.
    origin : str
        What it is and where it comes from, in words.
    charge : float or None
        Total charge in e, where the file says one.
    """

    structure: Structure
    text: str
    origin: str
    charge: float | None

    @property
    def formula(self) -> str:
        """Such as C2H6O."""
        return str(Atoms(self.structure.numbers).symbols.formula.format("hill"))

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
    structure = geometry.structure
    charge = atoms.info.get("charge", atoms.info.get("total_charge"))
    if charge is None and atoms.has("initial_charges"):
        charge = atoms.get_initial_charges().sum()
    return StartingStructure(
        structure, _text(geometry, where), _described(structure, where), _number(charge)
    )


def _as_it_is(path: Path) -> StartingStructure:
    try:
        structure = read_geometry(path).structure
    except AimsInputError as error:
        raise InputError([str(error)]) from error
    charge = structure.initial_charges.sum() if structure.initial_charges.any() else None
    text = path.read_text(encoding="utf-8")
    return StartingStructure(structure, text, _described(structure, path.name), _number(charge))


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


def _described(structure: Structure, where: str) -> str:
    formula = Atoms(structure.numbers).symbols.formula.format("hill")
    kind = "a crystal" if structure.pbc else "a molecule"
    return f"{formula}, {len(structure)} atoms, {kind} ({where})"


def _number(charge: object) -> float | None:
    try:
        value = float(charge)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return round(value, 6) if np.isfinite(value) else None
