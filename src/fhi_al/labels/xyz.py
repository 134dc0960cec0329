"""Labels as extended xyz, MACE's own format: written for the user, read from the user.

Owns what a frame of a file must hold to be a label; says of each frame what is wrong with it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from fhi_al.core.label import Label, Origin
from fhi_al.core.structure import Array, geometry_key, structure
from fhi_al.labels.records import Record, Rejected
from fhi_al.storage.atomic_file import write_atomically

ENERGY, FORCES, STRESS = "REF_energy", "REF_forces", "REF_stress"
_NO_HEADER = (
    "expected the number of atoms of a frame. The one before has more or fewer atoms than its "
    "first line says: correct it"
)
_CUT_OFF = (
    "expected a line for each. Write or copy the file again, for it was cut off, or remove this "
    "frame"
)
# Of the least volume (A^3) that lattice vectors can span.
SMALLEST_VOLUME = 1e-6


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a file.

    Parameters
    ----------
    path : Path
    number : int
        Counted from 1.
    label : Label or None
        None if it holds none.
    problems : tuple of str
        Why not: what was found, what was expected, how to fix it.
    """

    path: Path
    number: int
    label: Label | None
    problems: tuple[str, ...] = ()


def read_labels(path: Path) -> list[Label]:
    """Read labels that :func:`write_records` wrote, or others of :func:`read_frames`.

    Raises
    ------
    ValueError
        With all that is wrong with the file.
    """
    frames = read_frames(path)
    problems = [f"{path}: frame {f.number}: {problem}" for f in frames for problem in f.problems]
    if problems:
        raise ValueError("\n".join(problems))
    return [frame.label for frame in frames if frame.label is not None]


def read_frames(path: Path) -> list[Frame]:
    """Read any extended xyz file with REF_energy (eV) and REF_forces (eV/A).

    A REF_stress (eV/A^3) may be 3x3 or have ASE's six components (xx, yy, zz, yz, xz, xy).

    Raises
    ------
    ValueError
        If the file is no text.
    """
    return [
        _frame(path, number, content, problem)
        for number, (content, problem) in enumerate(frames_of(text_of(path)), start=1)
    ]


def text_of(path: Path) -> str:
    """The text of an extended xyz file.

    Raises
    ------
    ValueError
        If it is no text.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: this is no text (byte {error.start}): expected extended xyz. Write the file "
            "again, with ASE's ase.io.write(..., format='extxyz') for instance."
        ) from error


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write results as extended xyz (energy eV, forces eV/A, stress eV/A^3, under REF_ keys)."""
    import ase.io  # late, see md/atoms.py

    text = io.StringIO()
    ase.io.write(text, [_atoms(record) for record in records], format="extxyz")
    write_atomically(path, text.getvalue())


def frames_of(text: str) -> Iterator[tuple[str, str | None]]:
    """The text of each frame; behind what cannot be told apart, what is wrong, and no more."""
    lines = text.split("\n")
    start = 0
    while start < len(lines):
        first = lines[start].strip()
        if not first:  # ASE's own reader drops all that follows
            start += 1
            continue
        if not first.isdecimal() or int(first) < 1:
            yield "", f"line {start + 1} is {first[:40]!r}: {_NO_HEADER}"
            return
        end = start + 2 + int(first)
        n_found = sum(bool(line.strip()) for line in lines[start + 2 : end])
        if n_found < int(first):
            yield "", f"ends after {n_found} of {first} atoms (line {start + 1}): {_CUT_OFF}"
            return
        yield "\n".join(lines[start:end]) + "\n", None
        start = end


def _frame(path: Path, number: int, content: str, problem: str | None) -> Frame:
    if problem is not None:
        return Frame(path, number, None, (problem,))
    try:
        atoms = atoms_of_frame(content)
    except ValueError as error:
        return Frame(path, number, None, (str(error),))
    problems = [*_value_problems(atoms), *cell_problems(atoms)]
    if problems:
        return Frame(path, number, None, tuple(problems))
    return Frame(path, number, _label(atoms, number))


def atoms_of_frame(content: str) -> Atoms:
    """What the text of a frame holds.

    Raises
    ------
    ValueError
        If ASE cannot read it: what was expected, how to fix it.
    """
    import ase.io  # late, see md/atoms.py

    try:
        atoms: Any = ase.io.read(io.StringIO(content), format="extxyz")
    except Exception as error:  # ASE's reader raises whatever comes of a line it does not expect
        raise ValueError(
            f"ASE cannot read it ({type(error).__name__}: {error}): expected the columns that "
            "Properties=... in its second line names. Correct or remove it"
        ) from error
    return atoms


def _value_problems(atoms: Atoms) -> Iterator[str]:
    found = set(atoms.info) | set(atoms.arrays)
    # ASE takes plain energy and forces away, and MACE would train on nothing.
    found |= set() if atoms.calc is None else set(atoms.calc.results)
    for name, shape in ((ENERGY, ()), (FORCES, (len(atoms), 3)), (STRESS, None)):
        plain = name.removeprefix("REF_")
        value = atoms.info.get(name, atoms.arrays.get(name))
        if value is None:
            if shape is None:
                continue
            if plain in found:
                fix = f"It has {plain}: if that is the reference's, rename it to {name}"
            else:
                fix = "Compute it, or remove the frame"
            yield f"has no {name}: expected the reference's values under that name. {fix}"
            continue
        yield from _array_problems(name, value, ((9,), (6,), (3, 3)) if shape is None else (shape,))
    if not np.isfinite(atoms.positions).all():
        yield "a position is not finite: expected numbers in A. Remove the frame"


def _array_problems(name: str, value: Any, shapes: Sequence[tuple[int, ...]]) -> Iterator[str]:
    array = np.asarray(value)
    if array.dtype.kind not in "if":
        yield f"{name} = {str(value)[:40]} is no number. Correct it, or remove the frame"
    elif array.shape not in shapes:
        expected = " or ".join(str(shape) if shape else "one number" for shape in shapes)
        yield f"{name} has the shape {array.shape}, expected {expected}. Correct it"
    elif not np.isfinite(array).all():
        yield (
            f"{name} is not finite: expected numbers. Compute it again, or remove the frame: "
            "nothing can be learnt from it"
        )


def cell_problems(atoms: Atoms) -> Iterator[str]:
    """What is wrong with the cell of periodic atoms, and how to fix it."""
    periodic = atoms.pbc.tolist()
    if not any(periodic):
        return
    written = " ".join("T" if flag else "F" for flag in periodic)
    if not all(periodic):
        yield (
            f'is periodic in some directions only (pbc="{written}"): expected all three ("T T T", '
            'with vacuum in the cell of a surface) or none ("F F F")'
        )
    cell = np.asarray(atoms.cell[:])
    if not np.isfinite(cell).all():
        yield "a lattice vector is not finite: expected numbers in A. Correct Lattice"
    elif abs(np.linalg.det(cell)) < SMALLEST_VOLUME:
        yield (
            "its lattice vectors span no volume, one is zero or in the plane of the others: "
            "expected three. Correct Lattice"
        )


def _label(atoms: Atoms, number: int) -> Label:
    cell = np.asarray(atoms.cell[:]) if atoms.pbc.any() else None
    points = structure(atoms.numbers, atoms.positions, cell)
    stress, given = atoms.info.get(STRESS), atoms.info.get("config_type")
    return Label(
        key=geometry_key(0, points.positions, points.cell),
        system=0,
        numbers=points.numbers,
        positions=points.positions,
        cell=points.cell,
        pbc=points.pbc,
        energy=float(atoms.info[ENERGY]),
        forces=np.asarray(atoms.arrays[FORCES], dtype=np.float64),
        stress=None if stress is None else _full_stress(np.asarray(stress, dtype=np.float64)),
        origin=Origin("imported", 0, number),
        given_config_type=None if given is None else str(given),
    )


def _full_stress(stress: Array) -> Array:
    full: Array = voigt_6_to_full_3x3_stress(stress) if stress.size == 6 else stress.reshape(3, 3)
    return full


def _atoms(label: Record) -> Atoms:
    atoms = Atoms(
        numbers=label.numbers,
        positions=label.positions,
        cell=label.cell if label.pbc else None,
        pbc=label.pbc,
    )
    if isinstance(label, Rejected):
        # On one line: a line break in it (engines' messages have them) would end the header.
        atoms.info["reason"] = " ".join(label.reason.split())
        atoms.info["config_type"] = label.origin.config_type
    else:
        atoms.info[ENERGY] = label.energy
        atoms.arrays[FORCES] = label.forces
        if label.stress is not None:
            atoms.info[STRESS] = label.stress
        atoms.info["config_type"] = label.config_type
    if label.origin.source:
        atoms.info["source"] = label.origin.source
    if label.origin.is_displaced:
        return atoms
    atoms.info["trajectory"] = label.origin.trajectory
    atoms.info["md_step"] = label.origin.step
    if label.origin.md:
        atoms.info["md"] = label.origin.md
    return atoms
