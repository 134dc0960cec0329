"""The points of active learning: into every member's training or validation set, or held out."""

from __future__ import annotations

import logging
import math

from fhi_al.active_learning.held_out import HeldOut
from fhi_al.active_learning.trajectories import Trajectories
from fhi_al.core.improvement import BestError
from fhi_al.core.label import Label
from fhi_al.core.run_state import PendingLabel
from fhi_al.core.split import goes_to_validation
from fhi_al.core.trajectory import LabelAccepted
from fhi_al.labels.store import LabelStore
from fhi_al.models.ensemble import Ensemble

log = logging.getLogger(__name__)


class Points:
    """Where accepted labels go.

    Parameters
    ----------
    trajectories : Trajectories
    ensemble : Ensemble
    held_out : HeldOut
    store : LabelStore
        For the number of labels in the log.
    valid_ratio : float
        Share of the points that goes to validation.
    max_set_size : float
        Training points of one member that there is room for.
    """

    def __init__(
        self,
        trajectories: Trajectories,
        ensemble: Ensemble,
        held_out: HeldOut,
        store: LabelStore,
        valid_ratio: float,
        max_set_size: float = math.inf,
    ) -> None:
        self._trajectories = trajectories
        self._ensemble = ensemble
        self._held_out = held_out
        self._store = store
        self._valid_ratio = valid_ratio
        self._max_set_size = max_set_size

    def has_room(self) -> bool:
        """Whether there is a place for one more, pending ones already counted."""
        coming = sum(pending.crossed for pending in self._trajectories.state.pending)
        return len(self._ensemble.members[0].training) + coming < self._max_set_size

    def add(self, pending: PendingLabel, label: Label, is_here: bool) -> None:
        """Add a point to the same set of every member, or hold it out.

        Parameters
        ----------
        pending : PendingLabel
            The request for it.
        label : Label
        is_here : bool
            Whether its trajectory is still at the labelled structure.
        """
        state = self._trajectories.state
        if self._held_out.claims(label, state.n_points + state.n_test):
            self._held_out.keep_point(label, pending.trajectory, pending.frame.step)
            # As after a validation point: there is nothing to train on.
            self._trajectories.apply(pending.trajectory, LabelAccepted(True, is_here))
            return
        to_validation = goes_to_validation(state.n_validation, state.n_points, self._valid_ratio)
        for member in self._ensemble.members:
            (member.add_validation if to_validation else member.add_training)([label])
        self._trajectories.update(
            n_points=state.n_points + 1, n_validation=state.n_validation + to_validation
        )
        if to_validation:
            # Errors on another validation set cannot be compared with those before.
            self._trajectories.update(
                plateaus=tuple(BestError(epoch=p.epoch, best_epoch=p.epoch) for p in state.plateaus)
            )
        member = self._ensemble.members[0]
        log.info(
            "sweep %d, trajectory %d, MD step %d: point joins %s; %d labels, %d + %d points",
            state.sweep,
            pending.trajectory,
            pending.frame.step,
            "validation" if to_validation else "training",
            self._store.n_labels,
            len(member.training),
            len(member.validation),
        )
        self._trajectories.apply(pending.trajectory, LabelAccepted(to_validation, is_here))

    def leave_out(self, label: Label) -> None:
        """A sanity check that joins no set: it may become a test point."""
        self._held_out.keep_sanity_check(label)
