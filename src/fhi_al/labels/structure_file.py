"""Structures of any file that ASE reads, and the same structures with labels as extended xyz.

Owns what a frame of a file must hold to be computed; says of each frame what is wrong with it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from fhi_al.core.label import Label
from fhi_al.labels.atoms_file import cell_problems, read_atoms
from fhi_al.labels.records import Record
from fhi_al.labels.xyz import ENERGY, FAILURE, FORCES, STRESS
from fhi_al.storage.atomic_file import write_atomically

_OURS = (ENERGY, FORCES, STRESS, FAILURE)


@dataclass(frozen=True, eq=False)
class FileStructure:
    """A frame of a file.

    Parameters
    ----------
    path : Path
    number : int
        Counted from 1.
    atoms : Atoms or None
        With all that the file says of it; None if it cannot be read.
    problems : tuple of str
        Why it cannot be computed: what was found, what was expected, how to fix it.
    """

    path: Path
    number: int
    atoms: Atoms | None
    problems: tuple[str, ...] = ()


def read_structures(path: Path) -> list[FileStructure]:
    """Read all frames of a file.

    Raises
    ------
    ValueError
        If nothing of it can be read.
    """
    found = [
        FileStructure(path, each.number, None, (each.problem or "cannot be read",))
        if each.atoms is None
        else FileStructure(path, each.number, each.atoms, tuple(_problems(each.atoms)))
        for each in read_atoms(path)
    ]
    if not found:
        raise ValueError(f"{path}: no structures: expected at least one. Put some there.")
    return found


def write_labelled(
    path: Path, structures: Sequence[FileStructure], records: Sequence[Record], *, stress: bool
) -> None:
    """Write structures, with all they carried, and their labels, as extended xyz.

    Parameters
    ----------
    path : Path
        Is either the old file or the whole new one.
    structures : sequence of FileStructure
        Of problems none has any.
    records : sequence of Label or Rejected
        One for each; energy eV, forces eV/A and stress eV/A^3 go under the ``REF_`` keys, the
        reason of a failure under ``REF_failure``.  What a file says there of its own goes.
    stress : bool
        Write the stress, where a label has one.
    """
    text = io.StringIO()
    for structure, record in zip(structures, records, strict=True):
        assert structure.atoms is not None
        _write(text, _labelled(structure.atoms, record, stress))
    write_atomically(path, text.getvalue())


def _problems(atoms: Atoms) -> Iterator[str]:
    if len(atoms) == 0:
        yield "has no atoms: expected at least one. Remove the frame"
        return
    if (atoms.numbers < 1).any():
        number = int(np.argmax(atoms.numbers < 1)) + 1
        yield f"atom {number} is no element: expected symbols of elements. Remove the frame"
    if not np.isfinite(atoms.positions).all():
        yield "a position is not finite: expected numbers in A. Remove the frame"
    for name in ("initial_magmoms", "initial_charges"):
        given = atoms.arrays.get(name)
        if given is not None and (given.shape != (len(atoms),) or not np.isfinite(given).all()):
            yield f"{name} are not one finite number for each atom: expected that. Correct them"
    yield from cell_problems(atoms)
    try:
        _write(io.StringIO(), _carried(atoms))
    except Exception as error:  # whatever ASE's writer meets in what a file carries
        yield (
            f"what it carries cannot be written as extended xyz ({type(error).__name__}: {error}): "
            "expected numbers and texts. Remove that from the frame"
        )


def _write(text: io.StringIO, atoms: Atoms) -> None:
    import ase.io  # late, see md/atoms.py

    ase.io.write(text, atoms, format="extxyz")


def _labelled(atoms: Atoms, record: Record, stress: bool) -> Atoms:
    found = _carried(atoms)
    if not isinstance(record, Label):
        # On one line: a line break in it (engines' messages have them) would end the header.
        found.info[FAILURE] = " ".join(record.reason.split())
        return found
    found.info[ENERGY] = record.energy
    found.arrays[FORCES] = record.forces
    if stress and record.stress is not None:
        found.info[STRESS] = record.stress
    return found


def _carried(atoms: Atoms) -> Atoms:
    """A copy without a calculator, whose results it carries by their names; none of our keys."""
    from ase.io.extxyz import per_atom_properties, per_config_properties

    copy: Any = atoms.copy()
    for name, value in (atoms.calc.results if atoms.calc is not None else {}).items():
        # What stands beside the calculator's says the same, or is what the user wants to keep.
        if name in per_atom_properties:
            copy.arrays.setdefault(name, value)
        elif name in per_config_properties:
            copy.info.setdefault(name, value)
    for name in _OURS:
        copy.info.pop(name, None)
        copy.arrays.pop(name, None)
    result: Atoms = copy
    return result
