"""geometry.in: read it as FHI-aims does, write it for the engine.  Text and numpy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from ase.data import atomic_masses, atomic_numbers
from numpy.typing import NDArray

from fhi_al.core.structure import Array, Structure
from fhi_al.engines.aims_input.errors import AimsInputError
from fhi_al.engines.aims_input.geometry_tags import (
    ABOUT_ATOM,
    ABOUT_SYSTEM,
    DROPPED,
    meant,
    refusal,
)
from fhi_al.engines.aims_input.text import lines_of, read_text, real, tokens_of

AXES = {"x": 0, "y": 1, "z": 2}


@dataclass(frozen=True, eq=False)
class Geometry:
    """A geometry.in.

    Parameters
    ----------
    path : Path
        Where it was read, for messages.
    structure : Structure
    species : tuple of n_atoms str
        FHI-aims' species name of each atom ("Fe", or a name of the user's such as "Fe_up").
    atom_lines : tuple of n_atoms tuples of str
        Other lines about an atom that the engine must see, verbatim.
    other_lines : tuple of str
        Lines about the whole system that the engine must see (a field, multipoles), verbatim.
    vector_lines : tuple of 3 tuples of str
        Lines about a lattice vector that the engine must see, verbatim; empty for a molecule.
    """

    path: Path
    structure: Structure
    species: tuple[str, ...]
    atom_lines: tuple[tuple[str, ...], ...]
    other_lines: tuple[str, ...]
    vector_lines: tuple[tuple[str, ...], ...] = ()


def with_masses(geometry: Geometry, masses: Mapping[str, float]) -> Geometry:
    """The geometry with the masses (u) of its species; the others have those of their elements.

    Masses that the structure has already stay.
    """
    shape = geometry.structure
    if shape.masses is not None or not set(geometry.species) & set(masses):
        return geometry
    standard = atomic_masses[shape.numbers]
    pairs = zip(geometry.species, standard, strict=True)
    found = np.array([masses.get(name, float(mass)) for name, mass in pairs])
    return replace(geometry, structure=replace(shape, masses=found))


@dataclass
class _Atom:
    line: int
    species: str
    coordinates: list[float]
    fractional: bool
    moment: float = 0.0
    charge: float = 0.0
    fixed: list[bool] = field(default_factory=lambda: [False, False, False])
    lines: list[str] = field(default_factory=list)


def read_geometry(path: Path, nuclei: Mapping[str, int] | None = None) -> Geometry:
    """Read a geometry.in.

    Parameters
    ----------
    path : Path
    nuclei : mapping, optional
        Atomic number of each species that control.in defines; the others must be element symbols.

    Raises
    ------
    AimsInputError
        Naming file, line, what was found and what was expected.
    """
    return parse_geometry(read_text(path), path, nuclei)


def parse_geometry(text: str, path: Path, nuclei: Mapping[str, int] | None = None) -> Geometry:
    """As :func:`read_geometry`, from text; ``path`` is for messages."""
    reader = _Reader(path)
    for number, line in enumerate(lines_of(text, path), start=1):
        words = tokens_of(line)
        if words:
            reader.take(number, line, words)
    return reader.finish(nuclei or {})


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.atoms: list[_Atom] = []
        self.vectors: list[list[float]] = []
        self.vector_lines: list[list[str]] = []
        self.others: list[str] = []
        self.after_vector = False

    def take(self, number: int, line: str, words: list[str]) -> None:
        keyword, values = words[0], words[1:]
        if keyword in ("atom", "atom_frac"):
            self._take_atom(number, keyword, values)
        elif keyword == "lattice_vector":
            if len(self.vectors) == 3:
                raise self._error(number, "a fourth lattice_vector", "expected three or none")
            self.vectors.append(self._numbers(number, keyword, values, 3))
            self.vector_lines.append([])
            self.after_vector = True
        elif keyword in ("initial_moment", "initial_charge"):
            self._take_guess(number, keyword, values)
        elif keyword == "constrain_relaxation":
            self._take_constraint(number, values)
        elif reason := refusal(keyword):
            raise self._error(number, *reason, "Take the line out.")
        elif not DROPPED.match(keyword):
            self._take_other(number, line, keyword)

    def _take_atom(self, number: int, keyword: str, values: list[str]) -> None:
        if len(values) < 4:
            raise self._error(
                number, f"{keyword} with {len(values)} values", "expected x y z and a species name"
            )
        coordinates = self._numbers(number, keyword, values, 3)
        self.atoms.append(_Atom(number, values[3], coordinates, keyword == "atom_frac"))
        self.after_vector = False

    def _take_guess(self, number: int, keyword: str, values: list[str]) -> None:
        atom = self._atom(number, keyword)
        value = self._numbers(number, keyword, values, 1)[0]
        if keyword == "initial_moment":
            atom.moment = value
        else:
            atom.charge = value
        if value == 0.0:
            # Not the same as nothing: control.in may set another default_initial_moment.
            atom.lines.append(f"{keyword} 0.0")

    def _take_constraint(self, number: int, values: list[str]) -> None:
        if self.after_vector:
            return  # about the cell, which no MD of ours moves
        atom = self._atom(number, "constrain_relaxation")
        what = values[0].lower() if values else "nothing"
        if what in AXES:
            atom.fixed[AXES[what]] = True
        elif what in (".true.", "true", "t"):
            atom.fixed = [True, True, True]
        elif what not in (".false.", "false", "f"):
            raise self._error(
                number, f"constrain_relaxation {what}", "expected .true., .false., x, y or z"
            )

    def _take_other(self, number: int, line: str, keyword: str) -> None:
        if near := meant(keyword):
            raise self._error(
                number, f"unknown keyword {keyword}", f"did you mean {near}", "Correct the line."
            )
        if keyword in ABOUT_ATOM:
            self._atom(number, keyword).lines.append(line.strip(" \t"))
        else:
            self._lines_for(keyword).append(line.strip(" \t"))

    def _lines_for(self, keyword: str) -> list[str]:
        """Where a line goes that may be about anything: to what it stands below."""
        if keyword in ABOUT_SYSTEM:
            return self.others
        if self.after_vector:
            return self.vector_lines[-1]
        return self.atoms[-1].lines if self.atoms else self.others

    def _atom(self, number: int, keyword: str) -> _Atom:
        if not self.atoms or self.after_vector:
            raise self._error(
                number,
                f"{keyword} follows no atom",
                "expected it below the atom it is about",
                "Move the line.",
            )
        return self.atoms[-1]

    def _numbers(self, number: int, keyword: str, values: list[str], count: int) -> list[float]:
        if len(values) < count:
            raise self._error(number, f"{keyword} with {len(values)} values", f"expected {count}")
        found = []
        for value in values[:count]:
            if (one := real(value)) is None:
                raise self._error(number, f"{keyword} {value}", "expected a number")
            found.append(one)
        if not np.isfinite(found).all():
            raise self._error(number, f"{keyword} {' '.join(values)}", "expected finite numbers")
        return found

    def _error(self, number: int | None, what: str, expected: str, fix: str = "") -> AimsInputError:
        return AimsInputError(self.path, number, what, expected, fix)

    def finish(self, nuclei: Mapping[str, int]) -> Geometry:
        if not self.atoms:
            raise self._error(None, "no atoms", "expected lines `atom x y z species`")
        if len(self.vectors) not in (0, 3):
            raise self._error(None, f"{len(self.vectors)} lattice_vector", "expected three or none")
        cell = np.array(self.vectors or np.zeros((3, 3)))
        # Relative to the product of the lengths, so that the unit of length does not matter.
        if self.vectors and abs(np.linalg.det(cell)) <= 1e-6 * np.prod(
            np.linalg.norm(cell, axis=1)
        ):
            raise self._error(
                None, "the lattice vectors lie in a plane", "expected three that span a volume"
            )
        return Geometry(
            path=self.path,
            structure=Structure(
                numbers=np.array([self._nucleus(atom, nuclei) for atom in self.atoms]),
                positions=np.array([self._position(atom, cell) for atom in self.atoms]),
                cell=cell,
                pbc=bool(self.vectors),
                fixed=np.array([atom.fixed for atom in self.atoms]),
                initial_moments=np.array([atom.moment for atom in self.atoms]),
                initial_charges=np.array([atom.charge for atom in self.atoms]),
            ),
            species=tuple(atom.species for atom in self.atoms),
            atom_lines=tuple(tuple(atom.lines) for atom in self.atoms),
            other_lines=tuple(self.others),
            vector_lines=tuple(tuple(lines) for lines in self.vector_lines),
        )

    def _nucleus(self, atom: _Atom, nuclei: Mapping[str, int]) -> int:
        nucleus = nuclei.get(atom.species, atomic_numbers.get(atom.species, 0))
        if nucleus < 1:
            raise self._error(
                atom.line,
                f"unknown species {atom.species}",
                "expected an element symbol, or a name that a species block in control.in defines",
            )
        return int(nucleus)

    def _position(self, atom: _Atom, cell: Array) -> Array:
        coordinates = np.array(atom.coordinates)
        if not atom.fractional:
            return coordinates
        if not self.vectors:
            raise self._error(
                atom.line, "atom_frac without lattice vectors", "expected three lattice_vector"
            )
        return coordinates @ cell


def write_geometry(
    geometry: Geometry,
    head: str = "Written by FHI_AL: the engine's copy of the user's geometry.in",
    *,
    constraints: bool = False,
) -> str:
    """The geometry.in that the engine reads: absolute positions in full precision.

    What rules electrons is kept (moments, charges, fields), and what is not known stays below the
    atom or lattice vector it stood below; velocities, Hessians and symmetry parameters are not
    written.

    Parameters
    ----------
    geometry : Geometry
    head : str
        Comment in the first line.
    constraints : bool
        Write what MD keeps fixed, too, which is none of the engine's business.
    """
    shape = geometry.structure
    lines = [f"# {head}"]
    lines += geometry.other_lines
    if shape.pbc:
        about = geometry.vector_lines or ((), (), ())
        for vector, below in zip(shape.cell, about, strict=True):
            lines.append(f"lattice_vector {_numbers(vector)}")
            lines += [f"    {line}" for line in below]
    for index, name in enumerate(geometry.species):
        lines.append(f"atom {_numbers(shape.positions[index])} {name}")
        if shape.initial_moments[index] != 0.0:
            lines.append(f"    initial_moment {_numbers(shape.initial_moments[index : index + 1])}")
        if shape.initial_charges[index] != 0.0:
            lines.append(f"    initial_charge {_numbers(shape.initial_charges[index : index + 1])}")
        lines += [f"    {line}" for line in geometry.atom_lines[index]]
        if constraints:
            lines += _fixed(shape.fixed[index])
    return "\n".join(lines) + "\n"


def _fixed(coordinates: NDArray[np.bool_]) -> list[str]:
    """Lines below an atom of which some coordinates are fixed."""
    if coordinates.all():
        return ["    constrain_relaxation .true."]
    return [f"    constrain_relaxation {axis}" for axis, k in AXES.items() if coordinates[k]]


def _numbers(values: Array) -> str:
    return " ".join(repr(float(value)) for value in values)
