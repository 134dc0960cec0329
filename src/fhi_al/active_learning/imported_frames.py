"""What can be wrong with frames that a user brings, and how it is said.  Touches no file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from ase.units import Hartree

from fhi_al.core.label import Label
from fhi_al.core.plausible import GeometryLimits, LabelLimits, geometry_problem, label_problem
from fhi_al.core.structure import Structure
from fhi_al.labels.xyz import Frame
from fhi_al.md.atoms import radii_of
from fhi_al.parallel.layout import ranges

# Kinds of problems of one file; all frames that have one are named together.
MOST_SHOWN = 5
# A cell beyond is no strained one: Bohr for A makes 6.7.
LARGEST_VOLUME_RATIO = 2.0
# No binding energy per atom comes near it, in eV.
NEAR_E0 = 15.0
# Labels of one structure are the same if they differ by less (eV, eV/A): xyz files are rounded.
ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Expected:
    """What the frames must agree with.

    Parameters
    ----------
    system : Structure
        Of geometry.in.
    geometry : GeometryLimits
        When a structure makes no sense.
    labels : LabelLimits
        What a label must not exceed.
    e0_sum : float or None
        Sum of the E0s of the system's atoms, in eV; None if nobody knows.
    e0_words : str
        Whose they are.
    stress : bool
        Labels are to have a stress; those without one are told.
    """

    system: Structure
    geometry: GeometryLimits
    labels: LabelLimits
    e0_sum: float | None = None
    e0_words: str = ""
    stress: bool = False


def frame_problems(frame: Frame, expected: Expected) -> Iterator[str]:
    """What is wrong with one frame by itself."""
    yield from frame.problems
    label, system = frame.label, expected.system
    if label is None:
        return
    if not np.array_equal(label.numbers, system.numbers):
        yield _other_atoms(label, system)
        return
    if label.pbc != system.pbc:
        kinds = ("a molecule", "a crystal (with a cell)")
        yield (
            f"is {kinds[label.pbc]}, geometry.in is {kinds[system.pbc]}: expected the same kind. "
            "Correct Lattice and pbc, or geometry.in"
        )
        return
    if system.pbc:
        times = abs(np.linalg.det(label.cell) / np.linalg.det(system.cell))
        if not 1 / LARGEST_VOLUME_RATIO <= times <= LARGEST_VOLUME_RATIO:
            yield (
                f"its cell has {times:.3g} times the volume of that in geometry.in: expected the "
                "same crystal, in A. Correct Lattice"
            )
            return
    problem = geometry_problem(
        label.positions, label.cell, label.pbc, radii_of(system), expected.geometry
    )
    if problem is not None:
        yield f"{problem}. Correct or remove it, or change min_distance or max_distance"
    problem = label_problem(
        label.energy, label.forces, True, len(system), expected.labels, label.stress
    )
    if problem is not None:
        yield f"{problem}. Correct or remove it"


def _other_atoms(label: Label, system: Structure) -> str:
    if len(label.numbers) != len(system):
        return (
            f"has {len(label.numbers)} atoms, geometry.in has {len(system)}: expected as "
            "many. Remove the frame"
        )
    place = int(np.argmax(label.numbers != system.numbers))
    found, wanted = (
        chemical_symbols[numbers[place]] for numbers in (label.numbers, system.numbers)
    )
    same = sorted(label.numbers) == sorted(system.numbers)
    return (
        f"has {'the atoms in another order' if same else 'other atoms'} than geometry.in (atom "
        f"{place + 1} is {found}, not {wanted}): expected the same elements in the same order. "
        + ("Sort its atoms, with their forces" if same else "Remove the frame")
    )


def far_energies(frames: Sequence[Frame], expected: Expected) -> list[tuple[Frame, str]]:
    """Frames whose energy cannot be that of the system, in eV."""
    labels = [frame.label for frame in frames if frame.label is not None]
    if not labels:
        return []
    reference, words = expected.e0_sum, expected.e0_words
    if reference is None:
        reference, words = float(np.median([label.energy for label in labels])), "their median"
    n_atoms, limit = len(expected.system), expected.labels.max_energy_per_atom
    found = []
    for frame, label in zip(frames, labels, strict=True):
        distance = abs(label.energy - reference) / n_atoms
        in_hartree = abs(label.energy * Hartree - reference) / n_atoms
        if distance > NEAR_E0 and in_hartree < distance / 4:
            what = "the energy looks like Hartree: expected eV. Multiply it by 27.211386"
        elif distance > limit:
            what = (
                f"the energy is more than max_energy_per_atom = {limit:g} eV per atom from {words} "
                f"({reference:.3f} eV): expected eV, of the same method. Correct or remove it"
            )
        else:
            continue
        found.append((frame, what))
    return found


def conflicts(frames: Iterable[Frame]) -> list[tuple[Frame, str]]:
    """Frames that have another label for the structure of an earlier one."""
    first: dict[str, Frame] = {}
    found = []
    for frame in frames:
        label = frame.label
        if label is None:
            continue
        before = first.setdefault(label.key, frame)
        assert before.label is not None
        if not same_label(before.label, label, within=ROUNDING):
            found.append(
                (
                    frame,
                    "has another energy, forces, stress or config_type than the same structure in "
                    f"{before.path}: frame {before.number}: expected one label for one structure. "
                    "Remove the wrong one",
                )
            )
    return found


def same_label(one: Label, other: Label, within: float = 0.0) -> bool:
    """Whether two labels of one structure agree.

    Parameters
    ----------
    one, other : Label
    within : float
        In eV, eV/A and eV/A^3.
    """
    if (one.stress is None) != (other.stress is None) or one.forces.shape != other.forces.shape:
        return False
    if one.config_type != other.config_type:
        return False
    differences = [abs(one.energy - other.energy), np.abs(one.forces - other.forces).max()]
    if one.stress is not None and other.stress is not None:
        differences.append(np.abs(one.stress - other.stress).max())
    return bool(max(differences) <= within)


def lines_of(found: Sequence[tuple[Frame, str]]) -> list[str]:
    """One line for each kind of problem in a file, with the frames that have it."""
    by_kind: dict[tuple[Path, str], list[int]] = {}
    for frame, what in found:
        by_kind.setdefault((frame.path, what), []).append(frame.number)
    lines: list[str] = []
    by_path: dict[Path, int] = {}
    for (path, what), numbers in by_kind.items():
        by_path[path] = by_path.get(path, 0) + 1
        if by_path[path] <= MOST_SHOWN:
            lines.append(f"{path}: {_frames(numbers)}: {what}.")
    lines += [
        f"{path}: {count - MOST_SHOWN} more problems of other kinds."
        for path, count in by_path.items()
        if count > MOST_SHOWN
    ]
    return lines


def _frames(numbers: Sequence[int]) -> str:
    return f"frame{'s' if len(numbers) > 1 else ''} {ranges(numbers)}"
