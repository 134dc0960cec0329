"""Candidates for labels: near-duplicates are dropped, the most different structures come first.

Near-duplicates of stored points are let go; of the others the most different come first.  Decided
once in a sweep, after all trajectories have moved; never in an MD step.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from fhi_al.active_learning.frames import request_of
from fhi_al.active_learning.options import LabellingOptions
from fhi_al.active_learning.propagation import Dynamics
from fhi_al.active_learning.trajectories import Trajectories
from fhi_al.core.diversity import farthest_first, fingerprints, nearest_duplicate, scatter
from fhi_al.core.label import Label
from fhi_al.core.run_state import PendingLabel
from fhi_al.core.structure import Array
from fhi_al.core.trajectory import TrajectoryState, Withdrawn
from fhi_al.md.system import MDSystem
from fhi_al.models.ensemble import Ensemble
from fhi_al.report import clock
from fhi_al.report.clock import Clock
from fhi_al.report.journal import Journal

log = logging.getLogger(__name__)

# Stored points that candidates are compared with: at most this many, and so many numbers (40 MB).
MOST_STORED = 2000
_MOST_NUMBERS = 5_000_000


@dataclass(frozen=True, eq=False)
class _Stored:
    """What candidates of one system are compared with.

    Parameters
    ----------
    numbers : (n_atoms,)
    scale : (n_atoms,)
        Scatter of the descriptors.
    features : (n_stored, n_atoms, n_features)
        Divided by the scale.
    prints : (n_stored, n_numbers)
        Their fingerprints.
    """

    numbers: NDArray[np.int64]
    scale: Array
    features: Array
    prints: Array


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A pending label: scaled features (n_atoms, n_features), fingerprint, new in this sweep?"""

    pending: PendingLabel
    is_new: bool
    features: Array
    fingerprint: Array


class Candidates:
    """The structures for which a run's active learning asks for labels.

    Parameters
    ----------
    trajectories : Trajectories
    dynamics : Dynamics
        Which trajectory is of which system.
    ensemble : Ensemble
        Its sets are the stored points, its descriptors say how different structures are.
    prefer : callable
        Called with the keys of the structures in the order in which they are to be labelled.
    journal, clock : Journal, Clock
    options : LabellingOptions
    """

    def __init__(
        self,
        trajectories: Trajectories,
        dynamics: Dynamics,
        ensemble: Ensemble,
        prefer: Callable[[Sequence[str]], None],
        journal: Journal,
        clock: Clock,
        options: LabellingOptions,
    ) -> None:
        self._trajectories = trajectories
        self._dynamics = dynamics
        self._systems = dynamics.systems
        self._ensemble = ensemble
        self._prefer = prefer
        self._journal = journal
        self._clock = clock
        self._limit = options.duplicate_distance
        self._by_distance = options.farthest_first
        # The last comparisons by system, for as long as weights and stored points are the same.
        self._known: dict[int, tuple[object, _Stored | None]] = {}

    def choose(self, n_waiting: int) -> None:
        """Let near-duplicates go, and put the others in the order in which they are worth most.

        Parameters
        ----------
        n_waiting : int
            Pending labels of earlier sweeps: the first ones of ``state.pending``.  They
            keep their claim, and are put in order together with the new ones.
        """
        state = self._trajectories.state
        crossed = [each for each in state.pending if each.crossed]
        new = [each for each in state.pending[n_waiting:] if each.crossed]
        if not new or (self._limit == 0 and (len(crossed) == 1 or not self._by_distance)):
            return
        chosen: list[list[PendingLabel]] = []
        duplicates: list[tuple[PendingLabel, float]] = []
        with self._clock.section(clock.MD):
            for system in sorted({self._system(each) for each in crossed}):
                of_it = [each for each in crossed if self._system(each) == system]
                is_new = [any(each is one for one in new) for each in of_it]
                worth, twice = self._judged(system, of_it, is_new)
                chosen.append(worth)
                duplicates += twice
        for pending, distance in duplicates:
            self._let_go(pending, distance)
        # The systems take turns.
        self._arrange([a for turn in zip_longest(*chosen) for a in turn if a is not None])

    def _judged(
        self, system: int, pending: Sequence[PendingLabel], is_new: Sequence[bool]
    ) -> tuple[list[PendingLabel], list[tuple[PendingLabel, float]]]:
        """Those of one system that are worth a label, in order, and the near-duplicates."""
        stored = self._stored(system)
        if stored is None:
            return list(pending), []
        left, duplicates = [], []
        for candidate in self._candidates(system, pending, is_new, stored):
            distance = self._duplicates(candidate, stored.features, stored.prints, stored)
            if distance is None:
                left.append(candidate)
            else:
                duplicates.append((candidate.pending, distance))
        if self._by_distance and left:
            prints = np.array([candidate.fingerprint for candidate in left])
            left = [left[k] for k in farthest_first(prints, stored.prints)]
        kept: list[_Candidate] = []
        for candidate in left:
            # Two trajectories at the same place: one label does for both.
            rivals = kept + [other for other in left if not other.is_new]
            distance = self._duplicates(
                candidate,
                np.array([other.features for other in rivals]),
                np.array([other.fingerprint for other in rivals]),
                stored,
            )
            if distance is None:
                kept.append(candidate)
            else:
                duplicates.append((candidate.pending, distance))
        return [candidate.pending for candidate in kept], duplicates

    def _duplicates(
        self, candidate: _Candidate, features: Array, prints: Array, stored: _Stored
    ) -> float | None:
        if self._limit == 0 or not candidate.is_new:
            return None
        one = (candidate.features, candidate.fingerprint)
        return nearest_duplicate(one, (features, prints), stored.numbers, self._limit)

    def _candidates(
        self, system: int, pending: Sequence[PendingLabel], is_new: Sequence[bool], stored: _Stored
    ) -> list[_Candidate]:
        structures = [
            replace(
                self._systems[system],
                positions=np.array(each.frame.positions),
                cell=np.array(each.frame.cell),
            )
            for each in pending
        ]
        features = np.array(self._ensemble.descriptors.of(structures)) / stored.scale[:, np.newaxis]
        prints = fingerprints(features, stored.numbers)
        return [_Candidate(*parts) for parts in zip(pending, is_new, features, prints, strict=True)]

    def _stored(self, system: int) -> _Stored | None:
        """The points of a system in any member's sets; None if they are too few to compare with.

        Test points are not among them: nothing may depend on them.
        """
        members = self._ensemble.members
        labels = {
            label.key: label
            for member in members
            for label in (*member.training, *member.validation)
            if label.system == system
        }
        of = (members[0].version, tuple(labels))
        if system not in self._known or self._known[system][0] != of:
            self._known[system] = (of, self._described(system, list(labels.values())))
        return self._known[system][1]

    def _described(self, system: int, labels: Sequence[Label]) -> _Stored | None:
        numbers = self._systems[system].numbers
        if len(labels) < 2:
            return None
        # The first one alone: it shows how many numbers the others will be.
        first = self._ensemble.descriptors.of(labels[:1])
        most = max(1, min(MOST_STORED, _MOST_NUMBERS // first[0].size) - 1)
        features = np.array(first + self._ensemble.descriptors.of(_spread(labels[1:], most)))
        scale = scatter(features, numbers)
        if scale is None:
            return None
        features = features / scale[:, np.newaxis]
        return _Stored(numbers, scale, features, fingerprints(features, numbers))

    def _system(self, pending: PendingLabel) -> int:
        return self._trajectory(pending)[0].system

    def _trajectory(self, pending: PendingLabel) -> tuple[TrajectoryState, MDSystem]:
        trajectory = self._trajectories.state.trajectories[pending.trajectory]
        return trajectory, self._dynamics.system_of(trajectory)

    def _let_go(self, pending: PendingLabel, distance: float) -> None:
        """The trajectory goes on without a label; a sanity check that is due is done."""
        state = self._trajectories.state
        left: Iterable[PendingLabel] = (
            replace(each, crossed=False) if each is pending else each
            for each in state.pending
            if each is not pending or each.is_sanity_check
        )
        self._trajectories.update(pending=tuple(left), n_duplicates=state.n_duplicates + 1)
        self._journal.add(
            "duplicate",
            sweep=state.sweep,
            trajectory=pending.trajectory,
            md_step=pending.frame.step,
            distance=distance,
            md=self._trajectory(pending)[1].conditions.name,
            system=self._trajectory(pending)[1].name,
        )
        log.info(
            "sweep %d, trajectory %d, MD step %d: near-duplicate of a point (distance %.3f, "
            "duplicate_distance %g), gets no label (%d so far)",
            state.sweep,
            pending.trajectory,
            pending.frame.step,
            distance,
            self._limit,
            state.n_duplicates + 1,
        )
        self._trajectories.apply(pending.trajectory, Withdrawn())

    def _arrange(self, order: Sequence[PendingLabel]) -> None:
        """Give the places of those that crossed to them in another order."""
        places = iter(order)
        pending = tuple(
            next(places) if each.crossed else each for each in self._trajectories.state.pending
        )
        self._trajectories.update(pending=pending)
        self._prefer(
            [
                request_of(each.frame, "active_learning", *self._trajectory(each)).key
                for each in order
            ]
        )


def _spread(labels: Sequence[Label], most: int) -> list[Label]:
    """All labels, or `most` of them, evenly spread, the last one among them."""
    if len(labels) <= most:
        return list(labels)
    return [labels[(k + 1) * len(labels) // most - 1] for k in range(most)]
