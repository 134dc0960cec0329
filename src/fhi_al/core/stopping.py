"""When a phase ends.  Pure: standard library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fhi_al.core.trajectory import Status, TrajectoryState


@dataclass(frozen=True)
class StopRules:
    """Stop rules: target force MAE (eV/A), size of a member's training set, labels in all.

    ``kept_for_test`` of the labels are not active learning's; ``by_worst_system``: the force MAE is
    that of the worst system.
    """

    desired_acc: float
    max_set_size: float = math.inf
    label_budget: float = math.inf
    kept_for_test: int = 0
    by_worst_system: bool = False

    @property
    def labels_before_test(self) -> float:
        """Labels that the initial dataset and active learning may cost."""
        return self.label_budget - self.kept_for_test


class NobodyLeft(Exception):
    """Every trajectory was retired."""


def active_learning_stop(
    rules: StopRules,
    mae_forces: float | None,
    n_training: int,
    n_labels: int,
    trajectories: Sequence[TrajectoryState],
) -> str | None:
    """Why active learning is over; None if it goes on.

    Parameters
    ----------
    mae_forces : float or None
        Mean over the members of their validation force MAE in eV/A, as last measured in this
        phase; None before.
    n_training : int
        Training points of one member.
    n_labels : int
        Computed so far.

    Raises
    ------
    NobodyLeft
        If all trajectories were retired before anything was reached.
    """
    if mae_forces is not None and mae_forces < rules.desired_acc:
        whose = " of the worst system," if rules.by_worst_system else ""
        return (
            f"the validation force MAE{whose} {mae_forces:.4f} eV/A is below "
            f"desired_acc = {rules.desired_acc:g} eV/A"
        )
    if n_training >= rules.max_set_size:
        return f"the training set has {n_training} points (max_set_size = {rules.max_set_size:g})"
    if n_labels >= rules.labels_before_test:
        kept = f", less {rules.kept_for_test} for the final test" if rules.kept_for_test else ""
        return f"{n_labels} labels are computed (label_budget = {rules.label_budget:g}{kept})"
    if all(trajectory.status.is_over for trajectory in trajectories):
        retired = sum(trajectory.status is Status.RETIRED for trajectory in trajectories)
        if retired == len(trajectories):
            raise NobodyLeft
        others = f" but the {retired} that were retired" if retired else ""
        return f"all trajectories{others} have done max_MD_steps"
    return None


def initial_stop(
    mae_forces: float | None, target: float, epochs: int, max_epochs: int
) -> str | None:
    """Why the initial dataset is complete; None if it grows on.

    Parameters
    ----------
    mae_forces : float or None
        Mean validation force MAE of the members in eV/A; None before the first validation.
    target : float
        lambda x desired_acc in eV/A.
    epochs, max_epochs : int
        Epochs trained in this phase and max_initial_epochs.
    """
    if mae_forces is not None and mae_forces <= target:
        return (
            f"the validation force MAE {mae_forces:.4f} eV/A has reached "
            f"lambda x desired_acc = {target:g} eV/A"
        )
    if epochs >= max_epochs:
        return f"{epochs} epochs are trained (max_initial_epochs = {max_epochs})"
    return None


class History(Protocol):
    """How an error went: a :class:`fhi_al.core.improvement.BestError`, or several of them."""

    @property
    def epoch(self) -> int: ...

    @property
    def epochs_without_improvement(self) -> int: ...


def convergence_stop(
    history: History, patience: int, max_epochs: int, key: str = "max_final_epochs"
) -> str | None:
    """Why a convergence, or a stage of it, is over; None if it goes on.

    Parameters
    ----------
    history : History
    patience, max_epochs : int
        Epochs without improvement, and in all, counted from the beginning of the convergence.
    key : str
        Of the settings, that `max_epochs` is from.
    """
    if history.epochs_without_improvement >= patience:
        return f"no improvement for {history.epochs_without_improvement} epochs"
    if history.epoch >= max_epochs:
        return f"{history.epoch} epochs are trained ({key} = {max_epochs})"
    return None
