"""The sets of the final convergence: every member trains on all that has been paid for.

While active learning runs, members with data of their own disagree where they know little.  At the
end that has served its purpose, and a label that a member has not seen is wasted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np

from fhi_al.core.diversity import farthest_first, fingerprints, scatter
from fhi_al.core.label import Label
from fhi_al.core.structure import Array
from fhi_al.models.member import Member

log = logging.getLogger(__name__)

# Steps of a long trajectory that are looked at, unless more are to be chosen: evenly spread.
MOST_COMPARED = 1000


def share_all(
    members: Sequence[Member],
    ensemble: Sequence[Member],
    labels: Sequence[Label],
    held_out: Sequence[Label],
    describe: Callable[[Sequence[Label]], list[Array]],
) -> None:
    """Give members all labels to train on but those it validates on and those held out.

    Steps of *ab initio* MD that are in no set are much like their neighbours: of these the most
    different ones join, as many as there are other points at most.

    Parameters
    ----------
    members : sequence of Member
        Those that are converged.
    ensemble : sequence of Member
        All: what is in any of their sets joins as a whole.
    labels : sequence of Label
        All, in the order in which they were computed.
    held_out : sequence of Label
        Test points.
    describe : callable
        Labels -> invariant features of each one's atoms, (n_atoms, n_features).
    """
    tested = {label.key for label in held_out}
    in_sets = {label.key for m in ensemble for label in (*m.training, *m.validation)}
    frames = [
        label
        for label in labels
        if label.key not in tested | in_sets and label.origin.phase == "initial"
    ]
    chosen = {label.key for label in frames}
    points = [label for label in labels if label.key not in tested | chosen]
    points += most_different(frames, points, describe, len(points))
    for member in members:
        has = {label.key for label in (*member.training, *member.validation)}
        member.add_training([label for label in points if label.key not in has])
    n_training = ", ".join(str(len(member.training)) for member in members)
    log.info(
        "final convergence: every member trains on all labels but its own validation points: "
        "%s points, %d of them from outside of the sets",
        n_training,
        sum(label.key not in in_sets for label in points),
    )


def most_different(
    candidates: Sequence[Label],
    stored: Sequence[Label],
    describe: Callable[[Sequence[Label]], list[Array]],
    most: int,
) -> list[Label]:
    """Of each system the candidates that are farthest from the stored labels and from each other.

    Parameters
    ----------
    candidates, stored : sequence of Label
    describe : callable
        As in :func:`share_all`.
    most : int
        Of all systems together, each in proportion to its candidates.

    Returns
    -------
    list of Label
        In the order of the candidates.
    """
    chosen: list[Label] = []
    for system in sorted({label.system for label in candidates}):
        own = [label for label in candidates if label.system == system]
        share = -(-most * len(own) // len(candidates))
        own = _evenly(own, max(MOST_COMPARED, share))
        near = [label for label in stored if label.system == system]
        features = np.array(describe([*near, *own]))
        scale = scatter(features, own[0].numbers)
        if scale is None:  # all alike
            continue
        prints = fingerprints(features / scale[:, None], own[0].numbers)
        order = farthest_first(prints[len(near) :], prints[: len(near)])
        chosen += [own[place] for place in order[:share]]
    keys = {label.key for label in chosen}
    return [label for label in candidates if label.key in keys]


def _evenly(labels: list[Label], most: int) -> list[Label]:
    """At most so many of them, evenly spread, the first one among them."""
    if len(labels) <= most:
        return labels
    return [labels[k * len(labels) // most] for k in range(most)]
