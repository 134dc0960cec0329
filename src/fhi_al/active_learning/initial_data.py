"""The data and models of an initial phase that a user brings, read and checked before any is used.

Owns what ``data/initial/`` and ``model/`` must hold.  Writes nothing, loads no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fhi_al.core.errors import InputError
from fhi_al.core.label import Label
from fhi_al.core.structure import Structure
from fhi_al.labels.xyz import Frame, read_frames
from fhi_al.parallel.layout import ranges

# Kinds of problems of one file; all frames that have one are named together.
MOST_SHOWN = 5
# Labels of one structure are the same if they differ by less (eV, eV/A): xyz files are rounded.
ROUNDING = 1e-6


@dataclass(frozen=True)
class InitialFiles:
    """Where the files are.

    Parameters
    ----------
    training, validation, models : tuple of Path
        One for each member.
    test : Path
        Need not be there.
    """

    training: tuple[Path, ...]
    validation: tuple[Path, ...]
    models: tuple[Path, ...]
    test: Path

    def missing(self) -> list[Path]:
        """Those that are not there."""
        needed = (*self.training, *self.validation, *self.models)
        return [path for path in needed if not path.is_file()]


@dataclass(frozen=True, eq=False)
class InitialData:
    """What is in them.

    Parameters
    ----------
    files : InitialFiles
    training, validation : tuple of list of Label
        The sets of each member.
    test : list of Label
        Points of the test set.
    """

    files: InitialFiles
    training: tuple[list[Label], ...]
    validation: tuple[list[Label], ...]
    test: list[Label]

    def labels(self) -> Iterator[Label]:
        """All labels, in the order of the files; several files may have the same."""
        for each in (*self.training, *self.validation, self.test):
            yield from each

    def described(self) -> list[str]:
        """Lines that say what a run would start from."""
        sizes = [
            f"{len(training)} + {len(validation)}"
            for training, validation in zip(self.training, self.validation, strict=True)
        ]
        return [
            f"starts from {self.files.training[0].parent.parent}: {', '.join(sizes)} points of the "
            f"members (training + validation), {len(self.test)} of the test set",
            f"starts from the models {', '.join(str(path) for path in self.files.models)}",
        ]


def initial_files(dataset_folder: Path, model_folder: Path, names: Sequence[str]) -> InitialFiles:
    """The files of members with these names, where exports are written."""
    folder = dataset_folder / "initial"
    return InitialFiles(
        training=tuple(folder / "training" / f"{name}.xyz" for name in names),
        validation=tuple(folder / "validation" / f"{name}.xyz" for name in names),
        models=tuple(model_folder / f"{name}.model" for name in names),
        test=folder / "test" / "combined.xyz",
    )


def read_initial_data(files: InitialFiles, system: Structure) -> InitialData:
    """Read the sets, all of whose files are there, and check every frame.

    Parameters
    ----------
    files : InitialFiles
    system : Structure
        Of geometry.in.

    Raises
    ------
    InputError
        With all that is wrong.
    """
    problems: list[str] = []
    frames: dict[Path, list[Frame]] = {}
    for path in dict.fromkeys((*files.training, *files.validation, files.test)):
        frames[path] = []
        if path != files.test or path.is_file():
            try:
                frames[path] = read_frames(path)
            except ValueError as error:
                problems.append(str(error))
    for found in frames.values():
        problems += _lines([(frame, what) for frame in found for what in _problems(frame, system)])
    problems += _lines(_conflicts(frame for found in frames.values() for frame in found))
    if problems:
        raise InputError(problems)
    labels = {path: [f.label for f in found if f.label] for path, found in frames.items()}
    return InitialData(
        files,
        tuple(labels[path] for path in files.training),
        tuple(labels[path] for path in files.validation),
        labels[files.test],
    )


def _problems(frame: Frame, system: Structure) -> Iterator[str]:
    yield from frame.problems
    if frame.label is None:
        return
    numbers = frame.label.numbers
    if not np.array_equal(numbers, system.numbers):
        yield (
            "has other atoms than geometry.in: expected the same elements in the same order. "
            "Sort its atoms, or remove the frame"
        )


def _conflicts(frames: Iterable[Frame]) -> list[tuple[Frame, str]]:
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
                    "has another energy, forces or stress than the same structure in "
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
    differences = [abs(one.energy - other.energy), np.abs(one.forces - other.forces).max()]
    if one.stress is not None and other.stress is not None:
        differences.append(np.abs(one.stress - other.stress).max())
    return bool(max(differences) <= within)


def _lines(found: Sequence[tuple[Frame, str]]) -> list[str]:
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
