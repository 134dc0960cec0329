"""Labels as extended xyz, MACE's own format, written for the user.

Owns the names of their values.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from ase import Atoms

from fhi_al.labels.records import Record, Rejected
from fhi_al.storage.atomic_file import write_atomically

ENERGY, FORCES, STRESS = "REF_energy", "REF_forces", "REF_stress"
# Why a structure has no label, where it has none.
FAILURE = "REF_failure"


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write results as extended xyz (energy eV, forces eV/A, stress eV/A^3, under REF_ keys)."""
    import ase.io  # late, see md/atoms.py

    text = io.StringIO()
    ase.io.write(text, [_atoms(record) for record in records], format="extxyz")
    write_atomically(path, text.getvalue())


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
    if label.origin.system:
        atoms.info["system"] = label.origin.system
    return atoms
