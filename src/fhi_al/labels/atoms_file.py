"""The frames of any file that ASE reads, one by one, and why some cannot be read.

Owns what tells frames of extended xyz apart, and what is wrong with a cell.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

_NO_HEADER = (
    "expected the number of atoms of a frame. The one before has more or fewer atoms than its "
    "first line says: correct it"
)
_CUT_OFF = (
    "expected a line for each. Write or copy the file again, for it was cut off, or remove this "
    "frame"
)
_COMPRESSED = (".gz", ".bz2", ".xz")
# Of the least volume (A^3) that lattice vectors can span.
SMALLEST_VOLUME = 1e-6


@dataclass(frozen=True, eq=False)
class AtomsFrame:
    """A frame of a file.

    Parameters
    ----------
    number : int
        Counted from 1.
    atoms : Atoms or None
        With all that the file says of it; None if it cannot be read.
    problem : str or None
        Why not: what was found, what was expected, how to fix it.
    """

    number: int
    atoms: Atoms | None
    problem: str | None = None


def read_atoms(path: Path) -> list[AtomsFrame]:
    """All frames of a file.

    Raises
    ------
    ValueError
        If nothing of it can be read.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise ValueError(
            f"{path}: {what}: expected a file that ASE reads (.xyz, .traj, ...). Correct the path."
        )
    try:
        # By frames of our own: ASE says of a whole file that it cannot be read, or stops silently.
        return list(_xyz(path) if _is_xyz(path) else _others(path))
    except OSError as error:
        raise ValueError(
            f"{path}: {error.strerror or error}: expected a file that can be read."
        ) from error
    except ValueError:
        raise
    except Exception as error:  # of a format that is none, in whatever reader ASE takes it for
        raise ValueError(
            f"{path}: ASE cannot read it ({type(error).__name__}: {error}): expected a file of "
            "structures in a format that it knows, such as extended xyz."
        ) from error


def _is_xyz(path: Path) -> bool:
    from ase.io.formats import filetype  # late, see md/atoms.py

    if path.suffix in (".xyz", ".extxyz") or not path.stat().st_size:
        return True
    return path.suffix not in _COMPRESSED and filetype(str(path)) in ("xyz", "extxyz")


def _xyz(path: Path) -> Iterator[AtomsFrame]:
    for number, (content, problem) in enumerate(_frames_of(_text_of(path)), start=1):
        if problem is not None:
            yield AtomsFrame(number, None, problem)
            continue
        try:
            yield AtomsFrame(number, _atoms_of(content))
        except ValueError as error:
            yield AtomsFrame(number, None, str(error))


def _others(path: Path) -> Iterator[AtomsFrame]:
    import ase.io  # late, see md/atoms.py

    reader = ase.io.iread(path, index=":")
    number = 0
    while True:
        number += 1
        try:
            atoms: Any = next(reader)
        except StopIteration:
            return
        except Exception as error:  # whatever comes of what a reader does not expect
            if number == 1:
                raise
            message = (
                f"ASE cannot read it ({type(error).__name__}: {error}), nor what follows: expected "
                "a structure. Write or copy the file again, or remove what is there"
            )
            yield AtomsFrame(number, None, message)
            return
        yield AtomsFrame(number, atoms)


def _text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: this is no text (byte {error.start}): expected extended xyz. Write the file "
            "again, with ASE's ase.io.write(..., format='extxyz') for instance."
        ) from error


def _frames_of(text: str) -> Iterator[tuple[str, str | None]]:
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


def _atoms_of(content: str) -> Atoms:
    """What the text of a frame of extended xyz holds.

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
