"""What can be wrong with frames that a user brings, and how it is said.  Touches no file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fhi_al.active_learning.matching import ExpectedSystem, order_like, systems_with
from fhi_al.core.label import Label
from fhi_al.core.plausible import GeometryLimits, LabelLimits, geometry_problem, label_problem
from fhi_al.core.structure import Structure, geometry_key
from fhi_al.labels.labelled_frames import Frame
from fhi_al.md.atoms import radii_of
from fhi_al.parallel.layout import ranges

# Kinds of problems of one file; all frames that have one are named together.
MOST_SHOWN = 5
# A cell beyond is no strained one: Bohr for A makes 6.7.
LARGEST_VOLUME_RATIO = 2.0
# Structures are the same if energies (eV) and positions (A) differ by less: files are rounded.
SAME_ENERGY, SAME_PLACE = 1e-4, 1e-3
# Of those with the same energy.
MOST_COMPARED = 20
# Labels of one structure are the same if they differ by less (eV, eV/A): xyz files are rounded.
ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Expected:
    """What the frames must agree with.

    Parameters
    ----------
    systems : sequence of ExpectedSystem
    geometry : GeometryLimits
        When a structure makes no sense.
    labels : LabelLimits
        What a label must not exceed.
    stress : bool
        Labels are to have a stress; those without one are told.
    """

    systems: Sequence[ExpectedSystem]
    geometry: GeometryLimits
    labels: LabelLimits
    stress: bool = False


@dataclass(frozen=True, eq=False)
class Examined:
    """A frame, and what is wrong with it by itself.

    Parameters
    ----------
    frame : Frame
        Its label is that of a system, in the order of its atoms; None if it can be of none.
    problems : tuple of str
    is_sorted : bool
        Its atoms were in another order.
    """

    frame: Frame
    problems: tuple[str, ...] = ()
    is_sorted: bool = False


def examined(frame: Frame, expected: Expected, system: int | None = None) -> Examined:
    """A frame as one of the run's systems, and what is wrong with it by itself.

    Parameters
    ----------
    frame : Frame
    expected : Expected
    system : int or None
        The only one that it can be of; None for any.
    """
    if frame.label is None:
        return Examined(frame, frame.problems)
    numbers = range(len(expected.systems)) if system is None else (system,)
    found = _as_system(frame.label, {k: expected.systems[k] for k in numbers})
    if isinstance(found, str):
        return Examined(replace(frame, label=None), (*frame.problems, found))
    problems = (*frame.problems, *_label_problems(found, expected))
    is_sorted = not np.array_equal(found.numbers, frame.label.numbers)
    return Examined(replace(frame, label=found), problems, is_sorted)


def _as_system(label: Label, systems: Mapping[int, ExpectedSystem]) -> Label | str:
    """The label of the one system that has these atoms, or why there is none."""
    found = systems_with(label.numbers, label.pbc, systems)
    if isinstance(found, str):
        return found
    if len(found) > 1:
        names = " and ".join(systems[k].name for k in found)
        return (
            f"could be of several systems ({names}): expected the atoms of one in their order. "
            "Sort its atoms, with their forces, or say which with system: NAME"
        )
    return _sorted_as(label, found[0], systems[found[0]].structure)


def _sorted_as(label: Label, index: int, system: Structure) -> Label:
    """With the atoms in the system's order: those of one element stay in theirs."""
    order = order_like(label.numbers, system.numbers)
    positions = label.positions[order]
    return replace(
        label,
        key=geometry_key(index, positions, label.cell),
        system=index,
        numbers=label.numbers[order],
        positions=positions,
        forces=label.forces[order],
    )


def _label_problems(label: Label, expected: Expected) -> Iterator[str]:
    """What is wrong with a label of a known system by itself."""
    one = expected.systems[label.system]
    system = one.structure
    if system.pbc:
        times = abs(np.linalg.det(label.cell) / np.linalg.det(system.cell))
        if not 1 / LARGEST_VOLUME_RATIO <= times <= LARGEST_VOLUME_RATIO:
            yield (
                f"its cell has {times:.3g} times the volume of that in {one.name}: expected the "
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


def duplicates(frames: Iterable[Frame]) -> list[tuple[Frame, str]]:
    """Frames with the same structure and energy as an earlier one, but for rounding.

    Those of one energy are next to each other when sorted by it: nothing else is compared.
    """
    ordered = sorted(
        ((frame.label, place, frame) for place, frame in enumerate(frames) if frame.label),
        key=lambda each: (each[0].system, each[0].energy, each[1]),
    )
    found: dict[int, Frame] = {}
    for k, (label, place, frame) in enumerate(ordered):
        for other, before, earlier in reversed(ordered[max(0, k - MOST_COMPARED) : k]):
            if other.system != label.system or label.energy - other.energy > SAME_ENERGY:
                break
            if _is_same_structure(label, other):
                found[max(place, before)] = frame if before < place else earlier
                break
    what = "the structure and energy of an earlier frame: it counts once"
    return [(frame, what) for _, frame in sorted(found.items(), key=lambda each: each[0])]


def _is_same_structure(one: Label, other: Label) -> bool:
    pairs = ((one.positions, other.positions), (one.cell, other.cell))
    return all(float(np.abs(a - b).max()) <= SAME_PLACE for a, b in pairs)


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
