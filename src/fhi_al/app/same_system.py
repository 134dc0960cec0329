"""Whether starting geometries are of one system: all but positions and cell is the same.  Pure.

Owns what is compared and how a difference is put into words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest

import numpy as np
from ase import Atoms
from ase.data import atomic_masses

from fhi_al.core.structure import Array, Structure
from fhi_al.engines.aims_input.geometry import AXES, Geometry
from fhi_al.engines.fingerprint import line_content


def differences(first: Geometry, other: Geometry) -> list[str]:
    """What makes a geometry one of another system than the first; empty if it is of the same.

    Parameters
    ----------
    first, other : Geometry

    Returns
    -------
    list of str
        What `other` is or has, and what it is or has not.
    """
    of_first, of_other = first.structure, other.structure
    same_atoms = np.array_equal(of_first.numbers, of_other.numbers)
    if not same_atoms and sorted(of_first.numbers) == sorted(of_other.numbers):
        return ["the atoms are in another order"]
    if not same_atoms or of_first.pbc != of_other.pbc:
        return [f"it is {_described(of_other)}, not {_described(of_first)}"]
    return [*_of_atoms(first, other), *_of_lines(first, other)]


def _described(structure: Structure) -> str:
    formula = Atoms(structure.numbers).get_chemical_formula()
    return f"{formula} ({'crystal' if structure.pbc else 'molecule'})"


def _of_atoms(first: Geometry, other: Geometry) -> Iterator[str]:
    """The first atom of each kind of difference."""

    def unlike(what: str, values: Callable[[Geometry], Sequence[str]]) -> Iterator[str]:
        pairs = list(zip(values(first), values(other), strict=True))
        places = [place for place, (wanted, found) in enumerate(pairs) if wanted != found]
        if places:
            wanted, found = pairs[places[0]]
            more = f" ({len(places)} such atoms)" if len(places) > 1 else ""
            yield f"atom {places[0] + 1} has {what} {found}, not {wanted}{more}"

    yield from unlike("the species", lambda one: one.species)
    yield from unlike("initial_moment", lambda one: _numbers(one.structure.initial_moments))
    yield from unlike("initial_charge", lambda one: _numbers(one.structure.initial_charges))
    yield from unlike("fixed coordinates:", lambda one: list(map(_axes, one.structure.fixed)))
    yield from unlike("mass", lambda one: _numbers(_masses(one.structure)))
    yield from unlike("other lines:", lambda one: list(map(_lines, one.atom_lines)))


def _of_lines(first: Geometry, other: Geometry) -> Iterator[str]:
    """About lattice vectors and the whole file."""
    pairs = zip_longest(first.vector_lines, other.vector_lines, fillvalue=())
    for number, pair in enumerate(pairs, start=1):
        wanted, found = map(_lines, pair)
        if wanted != found:
            yield f"lattice_vector {number} has other lines: {found}, not {wanted}"
    wanted, found = _lines(first.other_lines), _lines(other.other_lines)
    if wanted != found:
        yield f"lines about the whole system: {found}, not {wanted}"


def _numbers(values: Array) -> list[str]:
    return [repr(float(value) + 0.0) for value in values]  # -0.0 is 0.0


def _axes(fixed: Sequence[bool]) -> str:
    return " ".join(axis for axis, place in AXES.items() if fixed[place]) or "none"


def _masses(structure: Structure) -> Array:
    standard: Array = atomic_masses[structure.numbers]
    return standard if structure.masses is None else structure.masses


def _lines(lines: Sequence[str]) -> str:
    """In one spelling each, so that blanks and comments make no difference."""
    return ", ".join(f"`{' '.join(line_content(line))}`" for line in lines) or "none"
