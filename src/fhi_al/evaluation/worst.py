"""The worst structures, with labels and predictions, as extended xyz."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from ase import Atoms

from fhi_al.core.structure import Array
from fhi_al.evaluation.errors import worst_first
from fhi_al.evaluation.predictions import Labelled, Predicted
from fhi_al.labels.xyz import ENERGY, FORCES
from fhi_al.storage.atomic_file import write_atomically


def write_worst(
    path: Path,
    structures: Sequence[Labelled],
    found: Predicted,
    uncertainties: Sequence[float] | None,
    n_worst: int,
) -> None:
    """Write the structures with the largest force error on an atom, worst first.

    Parameters
    ----------
    path : Path
    structures : sequence of Labelled
    found : Predicted
    uncertainties : sequence of float or None
        Of each structure, in eV/A.
    n_worst : int
    """
    import ase.io  # late, see md/atoms.py

    frames = []
    for place, largest in worst_first(structures, found)[:n_worst]:
        uncertainty = None if uncertainties is None else uncertainties[place]
        frames.append(
            _frame(
                structures[place],
                float(found.energies[place]),
                found.forces[place],
                largest,
                uncertainty,
            )
        )
    text = io.StringIO()
    if frames:
        ase.io.write(text, frames, format="extxyz")
    write_atomically(path, text.getvalue())


def _frame(
    structure: Labelled, energy: float, forces: Array, largest: float, uncertainty: float | None
) -> Atoms:
    label = structure.label
    cell = label.cell if label.pbc else None
    atoms = Atoms(label.numbers, label.positions, cell=cell, pbc=label.pbc)
    atoms.info |= {
        ENERGY: label.energy,
        "model_energy": energy,
        "largest_force_error": largest,
        "frame": structure.number,
        "system": structure.system,
    }
    if uncertainty is not None:
        atoms.info["spread"] = uncertainty
    atoms.arrays |= {FORCES: label.forces, "model_forces": forces}
    return atoms
