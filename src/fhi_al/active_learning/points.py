"""The points of active learning: into every member's training or validation set, or held out."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np

from fhi_al.active_learning.held_out import HeldOut
from fhi_al.active_learning.options import SplitOptions
from fhi_al.active_learning.sharing import n_times
from fhi_al.active_learning.trajectories import Trajectories
from fhi_al.core.improvement import BestError
from fhi_al.core.label import Label, LabelSets
from fhi_al.core.run_state import ActiveLearningState, PendingLabel
from fhi_al.core.split import goes_to_validation, validates
from fhi_al.core.stopping import StopRules
from fhi_al.core.trajectory import LabelAccepted, LabelTooHigh
from fhi_al.labels.validation import LabelValidator
from fhi_al.models.ensemble import Ensemble

log = logging.getLogger(__name__)

# Phases in which points are labelled before active learning.
_INITIAL = ("initial", "imported")


class Points:
    """Where accepted labels go.

    Parameters
    ----------
    trajectories : Trajectories
    ensemble : Ensemble
    held_out : HeldOut
    validator : LabelValidator
        Knows how many labels there are, and how many the run has been given.
    split : SplitOptions
    stop : StopRules
        There is room for no more training points of a member, and no more labels, than these say.
    """

    def __init__(
        self,
        trajectories: Trajectories,
        ensemble: Ensemble,
        held_out: HeldOut,
        validator: LabelValidator,
        split: SplitOptions,
        stop: StopRules,
    ) -> None:
        self._trajectories = trajectories
        self._ensemble = ensemble
        self._held_out = held_out
        self._validator = validator
        self._split = split
        self._stop = stop
        self._n_shared: int | None = None

    def rms_force_before(self, system: int) -> float | None:
        """Root mean square of the reference forces in the sets that active learning began with.

        In eV/A, over the components on all atoms of a system's points; None if there are none.
        Points at rest, of a volume scan, say nothing of the forces in MD.
        """
        points = [
            one
            for one in _initial_points(self._ensemble.members, system)
            if one.origin.source != "volume"
        ]
        if not points:
            return None
        return math.sqrt(float(np.mean([np.mean(point.forces**2) for point in points])))

    def mean_energy_before(self, system: int) -> float | None:
        """As :func:`mean_initial_energy`."""
        return mean_initial_energy(self._ensemble.members, system)

    def has_room(self) -> bool:
        """Whether there is a place for one more, pending ones already counted."""
        coming = sum(pending.crossed for pending in self._trajectories.state.pending)
        return self.n_training() + coming < self._stop.max_set_size and self.may_label()

    def n_training(self) -> int:
        """Training points of one member; of an initial dataset that all share its own part counts.

        So that ``max_set_size`` is reached after as many labels, whoever trains on them.
        """
        n_training = len(self._ensemble.members[0].training)
        if not self._split.shared:
            return n_training
        if self._n_shared is None:  # once: no point joins this part any more
            training = self._ensemble.members[0].training
            self._n_shared = sum(label.origin.phase in _INITIAL for label in training)
        return n_training - self._n_shared + math.ceil(self._n_shared / len(self._ensemble))

    def may_label(self) -> bool:
        """Whether the budget allows for one more label, pending ones already counted."""
        if math.isinf(self._stop.labels_before_test):
            return True
        coming = len(self._trajectories.state.pending)
        return len(self._validator.given) + coming < self._stop.labels_before_test

    def add(self, pending: PendingLabel, label: Label, is_here: bool, too_high: str = "") -> None:
        """Add a point to the same set of every member, or hold it out.

        Parameters
        ----------
        pending : PendingLabel
            The request for it.
        label : Label
        is_here : bool
            Whether its trajectory is still at the labelled structure.
        too_high : str
            Why the trajectory must not go on from there; empty if it may.
        """
        state = self._trajectories.state
        if self._held_out.claims(label, state.n_points + state.n_test):
            self._held_out.keep_point(label, pending.trajectory, pending.frame.step)
            # As after a validation point: there is nothing to train on.
            self._trajectories.apply(pending.trajectory, _event(True, is_here, too_high))
            return
        validating = self._validating(state)
        was_ready = self._ensemble.can_be_trained
        for member in self._ensemble.members:
            if member.index in validating:
                member.add_validation([label])
            else:
                member.add_training([label] * n_times(self._split, member, state.n_points))
        # To nobody's training: its trajectory has nothing to wait for.
        to_validation = len(validating) == len(self._ensemble)
        is_ready = self._ensemble.can_be_trained
        if is_ready and not was_ready:
            for one in self._ensemble.members:
                one.fit_energies_of_the_method()
        self._trajectories.update(
            n_points=state.n_points + 1, n_validation=state.n_validation + to_validation
        )
        if validating:
            # Errors on another validation set cannot be compared with those before.
            self._trajectories.update(
                plateaus=tuple(
                    BestError(epoch=p.epoch, best_epoch=p.epoch) if k in validating else p
                    for k, p in enumerate(state.plateaus)
                )
            )
        member = self._ensemble.members[0]
        log.info(
            "sweep %d, trajectory %d, MD step %d: point joins %s; %d labels, %d + %d points",
            state.sweep,
            pending.trajectory,
            pending.frame.step,
            _set_name(validating, to_validation),
            self._validator.store.n_labels,
            len(member.training),
            len(member.validation),
        )
        # The first labels of a run without an initial dataset are collected before any training.
        nothing_to_train = to_validation or not is_ready
        self._trajectories.apply(pending.trajectory, _event(nothing_to_train, is_here, too_high))

    def _validating(self, state: ActiveLearningState) -> set[int]:
        """The members that get the next point for their validation."""
        every = range(len(self._ensemble))
        ratio = self._split.valid_ratio
        if self._split.shared:
            return {member for member in every if validates(member, state.n_points, ratio)}
        return (
            set(every) if goes_to_validation(state.n_validation, state.n_points, ratio) else set()
        )

    def leave_out(self, label: Label) -> None:
        """A sanity check that joins no set: it may become a test point."""
        self._held_out.keep_sanity_check(label)


def mean_initial_energy(members: Sequence[LabelSets], system: int) -> float | None:
    """Mean energy of a system's points that active learning began with, in eV, or None.

    Parameters
    ----------
    members : sequence of LabelSets
        Of the points in their sets, each counts once.
    system : int
    """
    points = _initial_points(members, system)
    if not points:
        return None
    return math.fsum(point.energy for point in points) / len(points)


def _initial_points(members: Sequence[LabelSets], system: int) -> list[Label]:
    points = {
        label.key: label
        for member in members
        for label in (*member.training, *member.validation)
        if label.system == system and label.origin.phase in _INITIAL
    }
    return list(points.values())


def _event(to_validation: bool, is_here: bool, too_high: str) -> LabelAccepted | LabelTooHigh:
    if too_high:
        return LabelTooHigh(to_validation, too_high, is_here)
    return LabelAccepted(to_validation, is_here)


def _set_name(validating: set[int], to_validation: bool) -> str:
    if to_validation or not validating:
        return "validation" if to_validation else "training"
    return f"training (validation of member {', '.join(map(str, sorted(validating)))})"
