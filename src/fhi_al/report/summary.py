"""The summary a run ends with."""

from __future__ import annotations

from fhi_al.core.run_state import RunState
from fhi_al.core.trajectory import Status
from fhi_al.dataset import LabelStore
from fhi_al.report.clock import ACTIVITIES


def summary(state: RunState, store: LabelStore, seconds: dict[str, float]) -> list[str]:
    """Lines: labels computed and discarded, force MAE, and where the wall time went.

    Parameters
    ----------
    state : RunState
    store : LabelStore
    seconds : dict
        Activity -> wall seconds.
    """
    mae = state.final_mae_forces
    total = sum(seconds.values())
    lines = [
        f"stage: {state.stage}" + (f" ({state.stop_reason})" if state.stop_reason else ""),
        f"labels: {store.n_computed} computed, of which {store.n_rejected} discarded",
        "force MAE on validation: " + ("not measured yet" if mae is None else f"{mae:.4f} eV/A"),
    ]
    trajectories = state.active.trajectories if state.active else ()
    if state.active is not None:
        steps = sum(t.step for t in trajectories)
        lines.append(
            f"active learning: {steps} MD steps on {len(trajectories)} trajectories, "
            f"{state.active.n_points} points added"
        )
    setbacks = state.sampling.setbacks + sum(t.setbacks for t in trajectories)
    if setbacks:
        retired = sum(t.status is Status.RETIRED for t in trajectories)
        lines.append(f"MD that had to go back: {setbacks} times; trajectories retired: {retired}")
    shares = ", ".join(
        f"{name} {seconds[name]:.0f} s ({100 * seconds[name] / max(total, 1e-9):.1f} %)"
        for name in ACTIVITIES
    )
    return [*lines, f"wall time {total:.0f} s: {shares}"]
