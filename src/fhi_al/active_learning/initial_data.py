"""The data and models of an initial phase that a user brings, read and checked before any is used.

Owns what ``data/initial/`` and ``model/`` must hold.  Writes nothing, loads no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fhi_al.active_learning.imported_frames import (
    Expected,
    conflicts,
    far_energies,
    frame_problems,
    lines_of,
)
from fhi_al.core.errors import InputError
from fhi_al.core.label import Label
from fhi_al.labels.without_stress import without_stress
from fhi_al.labels.xyz import Frame, read_frames


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
    lacking : str or None
        What is to be known of labels that have no stress though the run asks for it.
    """

    files: InitialFiles
    training: tuple[list[Label], ...]
    validation: tuple[list[Label], ...]
    test: list[Label]
    lacking: str | None = None

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
            *([self.lacking] if self.lacking else []),
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


def read_initial_data(files: InitialFiles, expected: Expected) -> InitialData:
    """Read the sets, all of whose files are there, and check every frame.

    Parameters
    ----------
    files : InitialFiles
    expected : Expected

    Raises
    ------
    InputError
        With all that is wrong.
    """
    problems: list[str] = []
    unreadable: set[Path] = set()
    frames: dict[Path, list[Frame]] = {}
    for path in dict.fromkeys((*files.training, *files.validation, files.test)):
        frames[path] = []
        if path != files.test or path.is_file():
            try:
                frames[path] = read_frames(path)
            except ValueError as error:
                problems.append(str(error))
                unreadable.add(path)
    for path, found in frames.items():
        problems += lines_of(
            [(frame, what) for frame in found for what in frame_problems(frame, expected)]
        )
        if not found and path != files.test and path not in unreadable:
            problems.append(f"{path}: no structures: expected at least one. Put some there.")
    every = [frame for found in frames.values() for frame in found if frame.label is not None]
    problems += lines_of(conflicts(every))
    problems += lines_of(far_energies(every, expected))
    problems += _same_sets(files, frames)
    if problems:
        raise InputError(problems)
    labels = {path: [f.label for f in found if f.label] for path, found in frames.items()}
    once = {label.key: label for each in labels.values() for label in each}
    return InitialData(
        files,
        tuple(labels[path] for path in files.training),
        tuple(labels[path] for path in files.validation),
        labels[files.test],
        without_stress(once.values()) if expected.stress else None,
    )


def _same_sets(files: InitialFiles, frames: Mapping[Path, Sequence[Frame]]) -> Iterator[str]:
    """Validation sets in which there is nothing that was not trained on."""
    for training, validation in zip(files.training, files.validation, strict=True):
        keys = [
            {frame.label.key for frame in frames[path] if frame.label}
            for path in (validation, training)
        ]
        if keys[0] and keys[0] <= keys[1]:
            yield (
                f"{validation}: all its structures are in {training}, too: expected others, for "
                "the error on what was trained on says nothing. Put different ones there."
            )
