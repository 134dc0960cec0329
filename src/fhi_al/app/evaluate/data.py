"""Labelled structures of a file that models are judged on: read, checked, named by system."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ase.symbols import Symbols

from fhi_al.active_learning.imported_frames import Expected, lines_of
from fhi_al.active_learning.initial_data import check_frames
from fhi_al.active_learning.matching import ExpectedSystem
from fhi_al.app.evaluate.models import EvaluatedModels
from fhi_al.core.errors import InputError
from fhi_al.core.label import Label
from fhi_al.core.plausible import GeometryLimits, LabelLimits
from fhi_al.core.structure import Structure, structure
from fhi_al.evaluation.predictions import Labelled
from fhi_al.labels.labelled_frames import Frame, LabelNames, read_frames

# What a run would not train on may well be what models are to be judged on: only what no
# calculation gives is refused.
GEOMETRY = GeometryLimits(min_distance=0.1, max_distance=math.inf)
LABELS = LabelLimits(max_force=math.inf, max_energy_per_atom=math.inf)


@dataclass(frozen=True, eq=False)
class EvaluatedData:
    """Labelled structures.

    Parameters
    ----------
    source : str
        Where they are from.
    structures : tuple of Labelled
    notes : tuple of str
        What may not be meant.
    """

    source: str
    structures: tuple[Labelled, ...]
    notes: tuple[str, ...] = ()


def read_data(path: Path, names: LabelNames, models: EvaluatedModels) -> EvaluatedData:
    """Read and check the labels of a file.

    Parameters
    ----------
    path : Path
        In any format that ASE reads.
    names : LabelNames
        Under which it has the labels.
    models : EvaluatedModels
        Which must know all elements.

    Raises
    ------
    InputError
        With all that is wrong.
    """
    try:
        frames = read_frames(path, names)
    except ValueError as error:
        raise InputError([str(error)]) from error
    if not frames:
        raise InputError([f"{path}: no structures: expected at least one. Put some there."])
    expected = Expected(_systems(frames), GEOMETRY, LABELS)
    checked = check_frames({path: frames}, expected)
    problems = [*checked.problems, *lines_of(_strangers(frames, models))]
    if problems:
        raise InputError(problems)
    names_of = {frame.number: frame.system for frame in frames}
    labelled = tuple(
        Labelled(frame.label, frame.number, names_of[frame.number] or composition(frame.label))
        for frame in checked.frames[path]
        if frame.label is not None
    )
    if not labelled:
        raise InputError([f"{path}: no frame has a label: expected energies and forces."])
    return EvaluatedData(str(path), labelled, checked.notes)


def composition(label: Label) -> str:
    """Its formula, and whether it is a crystal."""
    return formula_of(label) + (" (crystal)" if label.pbc else "")


def formula_of(label: Label | Structure) -> str:
    """Metals first, then in Hill's order: carbon, hydrogen, the others by the alphabet."""
    return str(Symbols(label.numbers).get_chemical_formula(mode="metal"))


def _systems(frames: Sequence[Frame]) -> list[ExpectedSystem]:
    """One for each order of atoms in the file, of which frames are compared with each other."""
    found: dict[tuple[bytes, bool], ExpectedSystem] = {}
    for frame in frames:
        label = frame.label
        if label is None:
            continue
        key = label.numbers.tobytes(), label.pbc
        if key not in found:
            cell = label.cell if label.pbc else None
            own = structure(label.numbers, label.positions, cell)
            found[key] = ExpectedSystem(f"frame {frame.number}", own)
    return list(found.values())


def _strangers(frames: Sequence[Frame], models: EvaluatedModels) -> list[tuple[Frame, str]]:
    found = []
    for frame in frames:
        missing = [] if frame.label is None else models.missing(frame.label.numbers)
        if missing:
            what = (
                f"has {', '.join(missing)}, which not every model knows: expected elements that"
                " all models know. Remove the frame, or take other models"
            )
            found.append((frame, what))
    return found
