"""Labels that a member has not trained on: its own validation points, and other members' points."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fhi_al.core.convergence import UnseenErrors, evenly_spread
from fhi_al.core.label import Label
from fhi_al.models.interface import ValidationErrors
from fhi_al.models.member import Member

# Bounds the time that errors on them take.
MOST_POINTS = 200


def unseen_labels(
    member: Member, members: Sequence[Member], test: Collection[str], at_most: int = MOST_POINTS
) -> list[Label]:
    """Labels to judge a member's weights by: cross-validation over the members.

    A member's own validation points may be a few neighbouring frames; points that other members
    have trained on are as new to this one.

    Parameters
    ----------
    member : Member
    members : sequence of Member
        All of the ensemble.
    test : collection of str
        Keys of points that nothing may be decided by.
    at_most : int
        If there are more, its own validation points come first; evenly spread over members and
        time.

    Returns
    -------
    list of Label
        Each once; empty if there are none.
    """
    trained_on = {label.key for label in member.training}
    excluded = trained_on | set(test)
    own = {label.key: label for label in member.validation if label.key not in excluded}
    others = {
        label.key: label
        for each in members
        for label in (*each.training, *each.validation)
        if label.key not in excluded and label.key not in own
    }
    first = _some(list(own.values()), at_most)
    return first + _some(list(others.values()), at_most - len(first))


def _some(labels: list[Label], at_most: int) -> list[Label]:
    return [labels[place] for place in evenly_spread(len(labels), at_most)]


def unseen_errors(member: Member, labels: Sequence[Label]) -> UnseenErrors:
    """Errors of the weights that MD uses, on labels of :func:`unseen_labels`.

    On its validation set where there are none (all of it is training points of its own: data that
    a user has imported twice).
    """
    if not labels:
        return validation_errors(member)
    found = member.errors_on(labels)
    return _of(found, len(labels))


def validation_errors(member: Member) -> UnseenErrors:
    """Errors of the weights that MD uses, on the member's own validation set."""
    found = member.validate()
    return _of(found, len(member.validation))


def _of(found: ValidationErrors, n_points: int) -> UnseenErrors:
    return UnseenErrors(
        found.mae_forces,
        found.mae_energy_per_atom,
        n_points,
        mae_stress=found.mae_stress,
        by_system=found.by_system,
    )
