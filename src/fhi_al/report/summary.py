"""The summary a run ends with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from fhi_al.core.calibration import calibration, describe
from fhi_al.core.label import DISPLACED_KINDS, Label
from fhi_al.core.reported_errors import ReportedErrors, contradictions
from fhi_al.core.run_state import RunState
from fhi_al.core.system_errors import SystemErrors
from fhi_al.core.trajectory import Status
from fhi_al.labels.store import LabelStore
from fhi_al.parallel.layout import Layout, ranges
from fhi_al.report.clock import ACTIVITIES


def summary(
    state: RunState,
    store: LabelStore,
    seconds: dict[str, float],
    idle: Sequence[str],
    names: Sequence[str] = ("",),
) -> list[str]:
    """Lines: labels computed and discarded, force MAE, where the wall time went, who was idle.

    Parameters
    ----------
    state : RunState
    store : LabelStore
    seconds : dict
        Activity -> wall seconds of rank 0, over all launches.
    idle : sequence of str
        From :func:`idle_shares`.
    names : sequence of str
        Of the systems; those without a name are not listed apart.
    """
    mae = state.final_mae_forces
    total = sum(seconds.values())
    lines = [
        f"stage: {state.stage}" + (f" ({state.stop_reason})" if state.stop_reason else ""),
        f"labels: {store.n_computed} computed, of which {store.n_rejected} discarded"
        + _by_phase(store)
        + (f"; {store.n_imported} from files" if store.n_imported else ""),
        *_labels_of_systems(store, names),
        *_initial_points(store),
        "force MAE on validation: " + ("not measured yet" if mae is None else f"{mae:.4f} eV/A"),
    ]
    if state.errors is not None:
        lines += _errors(state.errors, names)
    n_test = len(state.test) - (len(state.final_test.labelled) if state.final_test else 0)
    if n_test:
        test = state.test_mae_forces
        mae_test = "not measured yet" if test is None else f"{test:.4f} eV/A"
        lines.append(
            f"test set: {n_test} points, sanity checks included; force MAE of the "
            f"ensemble's mean on those held out: {mae_test}"
        )
    trajectories = state.active.trajectories if state.active else ()
    if state.active is not None:
        steps = sum(t.step for t in trajectories)
        lines.append(
            f"active learning: {steps} MD steps on {len(trajectories)} trajectories, "
            f"{state.active.n_points} points added"
            + (
                f"; {state.active.n_withdrawn} labels not needed any more when their turn came"
                if state.active.n_withdrawn
                else ""
            )
            + (
                f"; {state.active.n_duplicates} near-duplicates of points not labelled"
                if state.active.n_duplicates
                else ""
            )
        )
        fits = [calibration(pairs.values) for pairs in state.active.pairs]
        lines += [f"calibration: {describe(each)}" for each in fits if each is not None]
    rollbacks = sum(t.rollbacks for t in (*state.sampling.trajectories, *trajectories))
    if rollbacks:
        retired = sum(t.status is Status.RETIRED for t in trajectories)
        lines.append(f"MD that had to go back: {rollbacks} times; trajectories retired: {retired}")
    shares = ", ".join(
        f"{name} {seconds[name]:.0f} s ({100 * seconds[name] / max(total, 1e-9):.1f} %)"
        for name in ACTIVITIES
    )
    return [*lines, f"wall time {total:.0f} s: {shares}", *idle]


def _by_phase(store: LabelStore) -> str:
    """Where the labels went, in parentheses."""
    names = {
        "initial": "initial dataset",
        "active_learning": "active learning",
        "sanity": "sanity checks",
        "test": "final test",
    }
    counts = store.computed_by_phase()
    found = [f"{name} {counts[phase]}" for phase, name in names.items() if counts[phase]]
    return f" ({', '.join(found)})" if found else ""


def _initial_points(store: LabelStore) -> Iterator[str]:
    """Where labels of the initial dataset came from, if not all from one kind of MD."""
    counts = Counter(
        record.origin.source or "MD"
        for record in store
        if record.origin.phase == "initial" and isinstance(record, Label)
    )
    if len(counts) > 1 or counts.keys() & set(DISPLACED_KINDS):
        told = ", ".join(f"{n} {source}" for source, n in counts.items())
        yield f"labels of the initial dataset by source: {told}"


def _errors(errors: ReportedErrors, names: Sequence[str]) -> Iterator[str]:
    """What is known of the models' errors, and from how many points."""
    if errors.test is not None:
        yield f"true errors of the final models in MD of their own: {errors.test}"
        yield from _of_systems(errors.test.by_system, names)
    yield f"errors on each member's own validation points: {errors.validation}"
    yield from _of_systems(errors.validation.by_system, names)
    yield f"cross-validation, on all points that a member has not trained on: {errors.unseen}"
    yield from _of_systems(errors.unseen.by_system, names)
    md = errors.md
    if md is not None and md.calibrated is not None and md.true is not None:
        yield (
            f"along the models' own MD, before the final convergence: forces "
            f"{1000 * md.calibrated:.1f} meV/A by the calibrated uncertainty of {md.n_checks} "
            f"checks, {1000 * md.true:.1f} meV/A in the last sanity checks ({md.n_sanity} in all); "
            f"validation error of the same models {1000 * md.validation:.1f} meV/A"
        )
    for message in contradictions(errors):
        yield f"WARNING: {message}"


def _of_systems(errors: Sequence[SystemErrors], names: Sequence[str]) -> Iterator[str]:
    for one in errors:
        if names[one.system]:
            yield f"  {names[one.system]}: {one}"


def _labels_of_systems(store: LabelStore, names: Sequence[str]) -> Iterator[str]:
    """How many labels each system has."""
    if not any(names):
        return
    counts = Counter(record.system for record in store if isinstance(record, Label))
    listed = ", ".join(f"{name} {counts[k]}" for k, name in enumerate(names) if name)
    yield f"labels by system: {listed}"


def busy_shares(
    layout: Layout, wall_s: float, driving_s: float, others: Sequence[dict[int, float]]
) -> list[float]:
    """The share of the wall time in which each rank had something to do; as `idle_shares`."""
    busy_s = [sum(each.get(rank, 0.0) for each in others) for rank in range(layout.n_ranks)]
    busy_s[0] = driving_s
    return [min(1.0, each / max(wall_s, 1e-9)) for each in busy_s]


def idle_shares(
    layout: Layout, wall_s: float, driving_s: float, others: Sequence[dict[int, float]]
) -> list[str]:
    """A line that says how much of the wall time each rank had nothing to do.

    Parameters
    ----------
    layout : Layout
    wall_s : float
        Of this launch, after start-up.
    driving_s : float
        Of it, with work for rank 0.
    others : sequence of dict
        Rank -> seconds with work of some kind; a rank that is in none had none.
    """
    shares: list[tuple[str, list[int]]] = []
    for rank, busy in enumerate(busy_shares(layout, wall_s, driving_s, others)):
        share = f"{layout.roles(rank)}: {100 * (1.0 - busy):.0f} %"
        if shares and shares[-1][0] == share:
            shares[-1][1].append(rank)
        else:
            shares.append((share, [rank]))
    parts = [f"rank{'s' if len(r) > 1 else ''} {ranges(r)} ({share})" for share, r in shares]
    return [f"idle in this launch ({wall_s:.0f} s): " + ", ".join(parts)]
