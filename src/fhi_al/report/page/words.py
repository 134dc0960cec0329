"""What was asked and what came out, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from fhi_al.core.calibration import calibration as calibration_of
from fhi_al.core.calibration import describe
from fhi_al.core.run_state import Stage
from fhi_al.report.page.figures import duration, mev
from fhi_al.report.page.verdict import known_error
from fhi_al.report.record import RunRecord


def tiles(record: RunRecord) -> Iterator[tuple[str, str, str]]:
    """Number, unit and what it is, for the head of the page."""
    found = known_error(record)
    if found is not None:
        yield mev(found.forces), "meV/Å", "force error"
        if math.isfinite(found.energy_per_atom):
            yield mev(found.energy_per_atom, 2), "meV/atom", "energy error"
    computed = [one for one in record.labels if one.origin.phase != "imported"]
    yield str(len(computed)), "", "reference calculations"
    imported = len(record.labels) - len(computed)
    if imported:
        yield str(imported), "", "labels of your own"
    steps = _md_steps(record)
    if steps:
        yield f"{steps:,}".replace(",", "\u202f"), "", "MD steps of active learning"
    wall = wall_seconds(record)
    if wall:
        number, _, unit = duration(wall).partition(" ")
        yield number, unit, "wall time"


def wall_seconds(record: RunRecord) -> float:
    """Of all launches, as far as they are known."""
    booked = sum(record.state.seconds.values()) if record.state is not None else 0.0
    return max(booked, sum(launch.lasted_s for launch in record.launches))


def _md_steps(record: RunRecord) -> int:
    if record.state is None or record.state.active is None:
        return 0
    return sum(trajectory.step for trajectory in record.state.active.trajectories)


def asked(record: RunRecord) -> Iterator[tuple[str, str]]:
    """What was asked for: key and value in words."""
    get = record.settings.get
    yield from _systems(record)
    engine, method = (
        get("ACTIVE_LEARNING.reference_engine"),
        get("ACTIVE_LEARNING.reference_method"),
    )
    if engine:
        calculator = get("ACTIVE_LEARNING.reference_calculator")
        what = [
            str(engine),
            calculator if engine == "ase" else method if engine == "tblite" else None,
        ]
        yield "reference", ", ".join(str(each) for each in what if each)
    yield from _dynamics(record)
    if get("ACTIVE_LEARNING.ensemble_size"):
        models = get("ARCHITECTURE.model") or get("ACTIVE_LEARNING.model_backend") or "MACE"
        foundation = get("ARCHITECTURE.foundation_model")
        start = f", fine-tuned from {foundation}" if foundation else ""
        size, seed = get("ACTIVE_LEARNING.ensemble_size"), get("GENERAL.seed")
        yield "models", f"{size} members, {models}{start}, seed {seed}"
    if record.wanted_error is not None:
        yield "force error wanted", f"{1000 * record.wanted_error:g} meV/Å"
    limits = {
        "label_budget": "labels",
        "max_MD_steps": "MD steps of a trajectory",
        "max_set_size": "training points",
    }
    given = [
        f"{get(f'ACTIVE_LEARNING.{key}'):g} {what}"
        for key, what in limits.items()
        if isinstance(get(f"ACTIVE_LEARNING.{key}"), int | float)
    ]
    if given:
        yield "at most", ", ".join(given)


def _systems(record: RunRecord) -> Iterator[tuple[str, str]]:
    first = {label.system: label for label in reversed(record.good) if not label.origin.is_derived}
    told = [
        f"{record.system_name(system)} ({len(label.numbers)} atoms, "
        f"{'periodic' if label.pbc else 'molecule'})"
        for system, label in sorted(first.items())
    ]
    if told:
        yield "system" + "s" * (len(told) > 1), ", ".join(told)


def _dynamics(record: RunRecord) -> Iterator[tuple[str, str]]:
    sections: dict[str, dict[str, Any]] = {}
    for name, value in record.settings.items():
        section, _, key = name.partition(".")
        if section.startswith("MD"):
            sections.setdefault(section, {})[key] = value
    for section, of_it in sections.items():
        ensemble = of_it.get("stat_ensemble")
        thermostat = "" if ensemble == "NVE" else f", {of_it.get('thermostat')}"
        barostat = f", {of_it.get('barostat')}" if ensemble == "NPT" else ""
        yield (
            "MD" if len(sections) == 1 else section,
            f"{ensemble}{thermostat}{barostat}, {_plain(of_it.get('temperature'))} K, time step "
            f"{_plain(of_it.get('timestep'))} fs",
        )


def _plain(value: Any) -> str:
    if isinstance(value, int | float):
        return f"{value:g}"
    return ", ".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)


def came_out(record: RunRecord) -> Iterator[tuple[str, str]]:
    """What came out: key and value in words."""
    state = record.state
    discarded = len(record.discarded)
    yield (
        "labels",
        f"{len(record.good)} good, {discarded} discarded"
        + (f"; {len(state.test)} kept for the test" if state is not None and state.test else ""),
    )
    if state is None:
        return
    if state.errors is not None:
        errors = state.errors
        if errors.test is not None:
            yield "errors in MD of the final models", str(errors.test)
        is_old = state.active is not None and errors.md is None
        whose = " of the initial dataset's models" if is_old else ""
        yield f"errors{whose}, cross-validation", str(errors.unseen)
        yield f"errors{whose}, each member's own validation points", str(errors.validation)
        for one in errors.unseen.by_system if len(record.names) > 1 else ():
            yield f"cross-validation, {record.system_name(one.system)}", str(one)
    if state.active is not None:
        active = state.active
        rollbacks = sum(trajectory.rollbacks for trajectory in active.trajectories)
        retired = sum(str(each.status) == "retired" for each in active.trajectories)
        text = f"{len(active.trajectories)} trajectories, {active.n_points} points added"
        if active.n_duplicates:
            text += f", {active.n_duplicates} near-duplicates not labelled"
        if rollbacks:
            text += f"; MD had to go back {rollbacks} times, {retired} trajectories retired"
        yield "active learning", text
        for system, pairs in enumerate(active.pairs):
            fit = calibration_of(pairs.values)
            if fit is not None:
                several = len(active.pairs) > 1
                name = f"calibration, {record.system_name(system)}" if several else "calibration"
                yield name, describe(fit)
    if record.is_done or state.stage is Stage.INITIAL_DONE:
        models = record.settings.get("GENERAL.model_dir")
        if models:
            yield "models", f"{models}/"
