"""Labels of any files as the first points of a run: read, checked, shared out to the members."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fhi_al.active_learning.imported_frames import Expected, duplicates, lines_of
from fhi_al.active_learning.initial_data import InitialData, check_frames
from fhi_al.core.errors import InputError
from fhi_al.core.label import Label
from fhi_al.core.run_state import DataFile
from fhi_al.core.split import goes_to_test, goes_to_validation, validates
from fhi_al.labels.labelled_frames import Frame, LabelNames, read_frames


@dataclass(frozen=True)
class DataSource:
    """A file with labels.

    Parameters
    ----------
    path : Path
    name : str
        What it is called in the state of a run, wherever that is.
    names : LabelNames
    valid_ratio, test_ratio : float
        Shares of its points that go to validation, and to the test set; 1 is all of them.
    system : int or None
        Of all its structures; None: of those that have their atoms.
    """

    path: Path
    name: str
    names: LabelNames
    valid_ratio: float
    test_ratio: float
    system: int | None = None


def read_data_files(
    sources: Sequence[DataSource], expected: Expected, n_members: int, *, shared: bool
) -> InitialData:
    """Read and check all frames of some files, and share their labels out.

    Parameters
    ----------
    sources : sequence of DataSource
        Of different files.
    expected : Expected
    n_members : int
    shared : bool
        As in :class:`fhi_al.active_learning.options.SplitOptions`.

    Raises
    ------
    InputError
        With all that is wrong.
    """
    problems: list[str] = []
    frames: dict[Path, list[Frame]] = {}
    digests: dict[Path, str] = {}
    for number, source in enumerate(sources):
        frames[source.path] = []
        try:
            frames[source.path] = read_frames(source.path, source.names, number)
            digests[source.path] = fingerprint(source.path)
        except (ValueError, OSError) as error:
            problems.append(str(error))
            continue
        if not frames[source.path]:
            problems.append(f"{source.path}: no structures: expected at least one. Put some there.")
    systems = {source.path: source.system for source in sources}
    checked = check_frames(frames, expected, systems)
    problems += checked.problems
    if problems:
        raise InputError(problems)
    twice = duplicates([frame for found in checked.frames.values() for frame in found])
    left_out = {id(frame) for frame, _ in twice}
    sets = Sets(n_members, shared=shared)
    files = []
    for source in sources:
        kept = [frame for frame in checked.frames[source.path] if id(frame) not in left_out]
        labels = [frame.label for frame in kept if frame.label is not None]
        sets.share_out(labels, source.valid_ratio, source.test_ratio)
        files.append(DataFile(source.name, digests[source.path], len(labels)))
    return InitialData(
        ", ".join(str(source.path) for source in sources),
        tuple(sets.training),
        tuple(sets.validation),
        sets.test,
        files=tuple(files),
        notes=(*lines_of(twice), *checked.notes),
    )


class Sets:
    """The sets of the members, to which points are shared out as those that a run samples.

    Parameters
    ----------
    n_members : int
    shared : bool
        Every point is every member's, to train on or, in a fold of its own, to validate on.

    Attributes
    ----------
    training, validation : list of list of Label
        Of each member.
    test : list of Label
    """

    def __init__(self, n_members: int, *, shared: bool) -> None:
        self._shared = shared
        self.training: list[list[Label]] = [[] for _ in range(n_members)]
        self.validation: list[list[Label]] = [[] for _ in range(n_members)]
        self.test: list[Label] = []
        # Points so far: of each test ratio; left of each validation ratio, of each member's own,
        # and validated on of these; in all.
        self._seen: Counter[float] = Counter()
        self._left: Counter[float] = Counter()
        self._own: Counter[tuple[float, int]] = Counter()
        self._validated: Counter[tuple[float, int]] = Counter()
        self._n_left = 0

    def share_out(self, labels: Sequence[Label], valid_ratio: float, test_ratio: float) -> None:
        """Put each label into the sets of the members, or into the test set.

        Parameters
        ----------
        labels : sequence of Label
        valid_ratio, test_ratio : float
            From 0 to 1; those of several files with the same ratios count as of one.
        """
        for label in labels:
            is_test = goes_to_test(self._seen[test_ratio], test_ratio)
            self._seen[test_ratio] += 1
            if is_test:
                self.test.append(label)
                continue
            for member, validating in self._members(valid_ratio):
                (self.validation if validating else self.training)[member].append(label)

    def _members(self, valid_ratio: float) -> Iterator[tuple[int, bool]]:
        """Who gets the next point, and whether to validate on it."""
        n_members = len(self.training)
        place = self._left[valid_ratio]
        self._left[valid_ratio] += 1
        if self._shared:
            for member in range(n_members):
                yield member, validates(member, place, valid_ratio)
            return
        member = self._n_left % n_members
        self._n_left += 1
        key = valid_ratio, member
        validating = goes_to_validation(self._validated[key], self._own[key], valid_ratio)
        self._own[key] += 1
        self._validated[key] += validating
        yield member, validating


def fingerprint(path: Path) -> str:
    """What tells the content of a file from others.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
