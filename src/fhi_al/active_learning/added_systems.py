"""A finished run that goes on with systems that were added.

Sampling for them, then active learning again.  Weights and labels stay; the trajectories of the
other systems are over.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from fhi_al.core.assignment import Assignment, trajectories_of
from fhi_al.core.calibration import Pairs
from fhi_al.core.improvement import BestError
from fhi_al.core.run_state import ActiveLearningState, RunState, SamplingState, Stage, SweepStage
from fhi_al.core.threshold import MovingAverage
from fhi_al.core.trajectory import Status


def with_added_systems(
    state: RunState,
    added: Collection[int],
    active: Sequence[Assignment],
    n_systems: int,
) -> RunState:
    """The state of a finished run as it begins again for new systems.

    Parameters
    ----------
    state : RunState
        Of a run that is done.
    added : collection of int
        The new systems.
    active : sequence of Assignment
        Of the trajectories of all systems, as a run that begins would have them; those of the new
        ones count.
    n_systems : int
        In all.
    """
    now = None
    if state.active is not None:
        now = _with_trajectories(
            state.active, [each for each in active if each.system in added], n_systems
        )
    return replace(
        state,
        stage=Stage.INITIAL_SAMPLING,
        sampling=SamplingState(systems=tuple(sorted(added))),
        active=now,
        convergence=None,
        final_test=None,
        errors=None,
        final_mae_forces=None,
        stop_reason="",
        training_failures_in_row=(),
    )


def _with_trajectories(
    state: ActiveLearningState, rows: Sequence[Assignment], n_systems: int
) -> ActiveLearningState:
    n_new = n_systems - len(state.uncertainties)
    before = tuple(
        each if each.status.is_over else replace(each, status=Status.DONE)
        for each in state.trajectories
    )
    return replace(
        state,
        stage=SweepStage.MOVE,
        next_round=0,
        trajectories=(*before, *trajectories_of(rows, len(before))),
        uncertainties=(*state.uncertainties, *(MovingAverage() for _ in range(n_new))),
        true_errors=(*state.true_errors, *(MovingAverage() for _ in range(n_new))),
        pairs=(*state.pairs, *(Pairs() for _ in range(n_new))),
        mae_forces=None,
        mae_to_reach=None,
        plateaus=tuple(BestError() for _ in state.plateaus),
    )
