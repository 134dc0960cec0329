"""Points of the initial dataset that were sampled, shared out to the members and the test set."""

from __future__ import annotations

from collections.abc import Sequence

from fhi_al.active_learning.held_out import HeldOut
from fhi_al.active_learning.options import SplitOptions
from fhi_al.active_learning.progress import Progress
from fhi_al.core.label import Label
from fhi_al.core.split import bootstrap_count, goes_to_validation, validates
from fhi_al.models.member import Member


class Sharing:
    """Every member gets its own part of each round's points, or all, but for those held out.

    Parameters
    ----------
    progress : Progress
    members : sequence of Member
    held_out : HeldOut
    split : SplitOptions
    """

    def __init__(
        self,
        progress: Progress,
        members: Sequence[Member],
        held_out: HeldOut,
        split: SplitOptions,
    ) -> None:
        self._progress = progress
        self._members = members
        self._held_out = held_out
        self._split = split
        # Member -> training labels looked at so far, and those of them that are of the systems.
        self._counted: dict[int, tuple[int, int]] = {}

    @property
    def n_points(self) -> int:
        """Points that were sampled and have come to a set, but those of other atoms."""
        sizes = [self._n_of_systems(member) for member in self._members]
        n_points = sizes[0] if self._split.shared else sum(sizes)
        of_files = sum(file.n_labels for file in self._progress.state.initial_data)
        return n_points + len(self._progress.state.test) - of_files

    def _n_of_systems(self, member: Member) -> int:
        """Labels in a member's sets, but those of other atoms; counted once each."""
        looked_at, counted = self._counted.get(member.index, (0, 0))
        new = member.training[looked_at:]
        counted += sum(not label.origin.is_derived for label in new)
        self._counted[member.index] = looked_at + len(new), counted
        return counted + len(member.validation)

    def share_out(self, points: Sequence[Label]) -> None:
        """Put the points of a round into the sets.

        Parameters
        ----------
        points : sequence of Label
            In the order in which they were sampled.
        """
        n_before = self.n_points
        held_out = self._held_out.labels()
        n_kept = n_before - sum(label.origin.phase != "imported" for label in held_out)
        # They teach every member, and judge none.
        derived = [label for label in points if label.origin.is_derived]
        for member in self._members:
            member.add_training(derived)
        labels = []
        of_systems = (label for label in points if not label.origin.is_derived)
        for place, label in enumerate(of_systems):
            if self._held_out.claims(label, n_before + place):
                self._held_out.keep(label)
            else:
                labels.append(label)
        for member in self._members:
            if self._split.shared:
                self._to_all(member, labels, n_kept)
            else:
                self._to_one(member, labels[member.index :: len(self._members)])

    def _to_all(self, member: Member, labels: list[Label], n_before: int) -> None:
        for place, label in enumerate(labels, start=n_before):
            if validates(member.index, place, self._split.valid_ratio):
                member.add_validation([label])
            else:
                member.add_training([label] * n_times(self._split, member, place))

    def _to_one(self, member: Member, labels: list[Label]) -> None:
        for label in labels:
            n_validation = len(member.validation)
            n_points = n_validation + len(member.training)
            if goes_to_validation(n_validation, n_points, self._split.valid_ratio):
                member.add_validation([label])
            else:
                member.add_training([label])


def n_times(split: SplitOptions, member: Member, place: int) -> int:
    """How many times a member's training set takes a shared point.

    Parameters
    ----------
    split : SplitOptions
    member : Member
        Its first training point is there in any case.
    place : int
        Points of this phase before it.
    """
    if not split.bootstrap:
        return 1
    return max(bootstrap_count(member.index, place), int(not member.training))
