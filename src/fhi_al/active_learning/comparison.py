"""Which member of the ensemble is the best one: all members on the same points.  Trains nothing."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from fhi_al.core.label import Label
from fhi_al.models.member import Member

log = logging.getLogger(__name__)


def common_validation(members: Sequence[Member]) -> list[Label]:
    """The union of the members' validation points, none of which any member has trained on.

    The points of the initial dataset are each member's own, those of active learning are the same
    for all.  In sets that a user has imported, one member's validation point may be another's
    training point; it is left out.

    Returns
    -------
    list of Label
        Each point once.  Empty if every validation point is some member's training point.
    """
    trained_on = {label.key for member in members for label in member.training}
    validation = {label.key: label for member in members for label in member.validation}
    common = [label for key, label in validation.items() if key not in trained_on]
    assert not trained_on & {label.key for label in common}
    if len(common) < len(validation):
        log.warning(
            "%d of %d validation points are training points of another member: the members are "
            "not compared on them",
            len(validation) - len(common),
            len(validation),
        )
    return common


def best_member(members: Sequence[Member]) -> int:
    """Index of the member with the lowest force MAE on :func:`common_validation`.

    On their own sets the member with the easiest points would win, not the best one.  Only where
    there is no common point is each compared on its own validation set.
    """
    common = common_validation(members)
    if common:
        where = f"the {len(common)} validation points that no member has trained on"
        maes = [member.errors_on(common).mae_forces for member in members]
    else:
        where = "its own validation points, for there is none that no member has trained on"
        maes = [member.validate().mae_forces for member in members]
    # NaN, which no comparison ranks, comes last.
    best = int(np.argmin(np.nan_to_num(maes, nan=np.inf)))
    log.info(
        "the best member is %d: force MAE %.4f eV/A on %s; all members: %s eV/A",
        members[best].index,
        maes[best],
        where,
        ", ".join(f"{mae:.4f}" for mae in maes),
    )
    return members[best].index
