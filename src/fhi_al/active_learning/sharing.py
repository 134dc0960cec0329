"""Points of the initial dataset that were sampled, shared out to the members and the test set."""

from __future__ import annotations

from collections.abc import Sequence

from fhi_al.active_learning.held_out import HeldOut
from fhi_al.active_learning.options import SplitOptions
from fhi_al.core.label import Label
from fhi_al.core.split import bootstrap_count, goes_to_validation, validates
from fhi_al.models.member import Member


class Sharing:
    """Every member gets its own part of each round's points, or all, but for those held out.

    Parameters
    ----------
    members : sequence of Member
    held_out : HeldOut
    split : SplitOptions
    """

    def __init__(
        self,
        members: Sequence[Member],
        held_out: HeldOut,
        split: SplitOptions,
    ) -> None:
        self._members = members
        self._held_out = held_out
        self._split = split
        # Keys of the points in the members' sets, and how far each set has been looked at.
        self._keys: set[str] = set()
        self._looked_at: dict[tuple[int, bool], int] = {}

    @property
    def n_points(self) -> int:
        """Points that were sampled and have come to a set, but those of other atoms.

        Each once, whoever has it and how often.
        """
        for member in self._members:
            for is_training, labels in ((True, member.training), (False, member.validation)):
                place = member.index, is_training
                new = labels[self._looked_at.get(place, 0) :]
                self._keys.update(label.key for label in new if _is_sampled(label))
                self._looked_at[place] = len(labels)
        held_out = {label.key for label in self._held_out.labels() if _is_sampled(label)}
        return len(self._keys | held_out)

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
        if self._split.shared:
            for place, label in enumerate(labels, start=n_kept):
                self._to_all(label, place)
        else:
            for member in self._members:
                self._to_one(member, labels[member.index :: len(self._members)])

    def _to_all(self, label: Label, place: int) -> None:
        validating = [
            member.index
            for member in self._members
            if validates(member.index, place, self._split.valid_ratio)
        ]
        times = {
            member.index: n_times(self._split, member, place)
            for member in self._members
            if member.index not in validating
        }
        if not validating and not any(times.values()):
            # Nobody has drawn it: it was paid for, and its place would be counted as free.
            times[place % len(self._members)] = 1
        for member in self._members:
            if member.index in validating:
                member.add_validation([label])
            else:
                member.add_training([label] * times[member.index])

    def _to_one(self, member: Member, labels: list[Label]) -> None:
        n_derived = sum(label.origin.is_derived for label in member.training)
        for label in labels:
            n_validation = len(member.validation)
            n_points = n_validation + len(member.training) - n_derived
            if goes_to_validation(n_validation, n_points, self._split.valid_ratio):
                member.add_validation([label])
            else:
                member.add_training([label])


def _is_sampled(label: Label) -> bool:
    """Whether it is of no file of the user's, and of a system that MD moves."""
    return label.origin.phase != "imported" and not label.origin.is_derived


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
