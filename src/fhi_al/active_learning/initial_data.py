"""Labels that a user brings, read and checked before any is used: first points of the members.

Owns what ``data/initial/`` and ``model/`` must hold, and which member gets which of the labels of
other files.  Writes nothing, loads no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fhi_al.active_learning.imported_frames import (
    Expected,
    conflicts,
    examined,
    lines_of,
)
from fhi_al.active_learning.imported_units import unit_problems
from fhi_al.core.errors import InputError
from fhi_al.core.label import Label
from fhi_al.core.run_state import DataFile
from fhi_al.labels.labelled_frames import Frame, read_frames
from fhi_al.labels.without_stress import without_stress
from fhi_al.labels.xyz import FAILURE


@dataclass(frozen=True)
class InitialFiles:
    """Where the files of an initial phase are.

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
    """Labels that a run starts from.

    Parameters
    ----------
    source : str
        Where they are from.
    training, validation : tuple of list of Label
        The sets of each member.
    test : list of Label
        Points of the test set.
    models : tuple of Path
        Of the members, trained on them; empty if these are still to be trained.
    files : tuple of DataFile
        What the labels are of; of an initial phase with its models none.
    notes : tuple of str
        What may not be meant.
    without : tuple of str
        Systems that move and have no label among them.
    """

    source: str
    training: tuple[list[Label], ...]
    validation: tuple[list[Label], ...]
    test: list[Label]
    models: tuple[Path, ...] = ()
    files: tuple[DataFile, ...] = ()
    notes: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def labels(self) -> Iterator[Label]:
        """All labels, in the order of the sets; several of these may have the same."""
        for each in (*self.training, *self.validation, self.test):
            yield from each

    @property
    def n_labels(self) -> int:
        """Different ones."""
        return len({label.key for label in self.labels()})

    @property
    def is_enough(self) -> bool:
        """Whether every member has something to train on and to be validated on, of all systems."""
        return not self.without and all(map(bool, (*self.training, *self.validation)))

    def described(self) -> list[str]:
        """Lines that say what a run would start from."""
        sizes = [
            f"{len(training)} + {len(validation)}"
            for training, validation in zip(self.training, self.validation, strict=True)
        ]
        models = f"starts from the models {', '.join(str(path) for path in self.models)}"
        return [
            f"starts from {self.source}: {self.n_labels} labels; {', '.join(sizes)} points of the "
            f"members (training + validation), {len(self.test)} of the test set",
            *([models] if self.models else []),
            *self.notes,
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
    """Read the sets of an initial phase, all of whose files are there, and check every frame.

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
        if not frames[path] and path != files.test and path not in unreadable:
            problems.append(f"{path}: no structures: expected at least one. Put some there.")
    checked = check_frames(frames, expected)
    problems += [*checked.problems, *_same_sets(files, checked)]
    if problems:
        raise InputError(problems)
    return InitialData(
        str(files.training[0].parent.parent),
        tuple(checked.labels(path) for path in files.training),
        tuple(checked.labels(path) for path in files.validation),
        checked.labels(files.test),
        files.models,
        notes=checked.notes,
    )


@dataclass(frozen=True, eq=False)
class CheckedFrames:
    """Frames of some files, their labels those of the run's systems.

    Parameters
    ----------
    frames : mapping
        By their file.
    problems : list of str
        What is wrong with them.
    notes : tuple of str
        What may not be meant.
    """

    frames: Mapping[Path, list[Frame]]
    problems: list[str]
    notes: tuple[str, ...]

    def labels(self, path: Path) -> list[Label]:
        """Those of a file."""
        return [frame.label for frame in self.frames[path] if frame.label is not None]


def check_frames(
    frames: Mapping[Path, Sequence[Frame]],
    expected: Expected,
    systems: Mapping[Path, int | None] | None = None,
) -> CheckedFrames:
    """Match frames with the run's systems, and check them one by one and with each other.

    Parameters
    ----------
    frames : mapping
        Those of each file.
    expected : Expected
    systems : mapping, optional
        The system of each file, where there is a choice.
    """
    problems: list[str] = []
    notes: list[str] = []
    matched: dict[Path, list[Frame]] = {}
    for path, given in frames.items():
        found = [examined(frame, expected, (systems or {}).get(path)) for frame in given]
        matched[path] = [each.frame for each in found]
        problems += lines_of([(each.frame, what) for each in found for what in each.problems])
        note = "its atoms are in another order than the system's, and are sorted"
        notes += lines_of([(each.frame, note) for each in found if each.is_sorted])
        failed = [frame for frame in given if frame.label is None and not frame.problems]
        note = f"could not be computed ({FAILURE}): left out"
        notes += lines_of([(frame, note) for frame in failed])
    every = [frame for each in matched.values() for frame in each]
    problems += lines_of(conflicts(every))
    problems += lines_of(unit_problems(every, expected))
    if expected.stress:
        labels = {frame.label.key: frame.label for frame in every if frame.label is not None}
        lacking = without_stress(labels.values())
        notes += [lacking] if lacking else []
    return CheckedFrames(matched, problems, tuple(notes))


def _same_sets(files: InitialFiles, checked: CheckedFrames) -> Iterator[str]:
    """Validation sets in which there is nothing that was not trained on."""
    for training, validation in zip(files.training, files.validation, strict=True):
        keys = [{label.key for label in checked.labels(path)} for path in (validation, training)]
        if keys[0] and keys[0] <= keys[1]:
            yield (
                f"{validation}: all its structures are in {training}, too: expected others, for "
                "the error on what was trained on says nothing. Put different ones there."
            )
