"""Mutable state of a run, in one place: its state, its trajectories, the best weights.

Owns no decisions and no files: parts of the loop read it and replace what their step changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from fhi_al.core.convergence import ConvergenceStage
from fhi_al.core.run_state import ActiveLearningState, RunState
from fhi_al.md.live_trajectory import LiveTrajectory


@dataclass
class Progress:
    """What a snapshot keeps of a run, but for labels, sets and training states.

    Parameters
    ----------
    state : RunState
    live : list of LiveTrajectory
        The trajectories of the stage under way.
    best_weights : dict
        Stage of the convergence under way, and member -> its best weights of that stage.
    """

    state: RunState = field(default_factory=RunState)
    live: list[LiveTrajectory] = field(default_factory=list)
    best_weights: dict[tuple[ConvergenceStage, int], dict[str, Any]] = field(default_factory=dict)

    @property
    def active(self) -> ActiveLearningState:
        """Where active learning stands.

        Raises
        ------
        ValueError
            If it has not begun.
        """
        if self.state.active is None:
            raise ValueError("active learning has not begun")
        return self.state.active

    def update(self, **changes: Any) -> None:
        """Replace fields of the state."""
        self.state = replace(self.state, **changes)

    def update_sampling(self, **changes: Any) -> None:
        """Replace fields of the sampling of the initial dataset."""
        self.update(sampling=replace(self.state.sampling, **changes))

    def update_active(self, **changes: Any) -> None:
        """Replace fields of active learning."""
        self.update(active=replace(self.active, **changes))
