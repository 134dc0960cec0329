"""What was asked and what came out, in words."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fhi_al.core.calibration import calibration as calibration_of
from fhi_al.core.calibration import describe
from fhi_al.core.reported_errors import contradictions
from fhi_al.core.run_state import Stage
from fhi_al.report.page.figures import duration, mev
from fhi_al.report.record import RunRecord


@dataclass(frozen=True)
class KnownError:
    """The most trustworthy error that is known of the models.

    Parameters
    ----------
    forces, energy_per_atom : float
        In eV/A and eV; the latter NaN if it is not known.
    n_structures : int
        0 if that is not known.
    where : str
        What the structures are.
    """

    forces: float
    energy_per_atom: float
    n_structures: int
    where: str


@dataclass(frozen=True)
class Verdict:
    """The run in a line and a few sentences.

    Parameters
    ----------
    kind : {"good", "open", "caution"}
    headline, text : str
    warnings : sequence of str
    """

    kind: str
    headline: str
    text: str
    warnings: Sequence[str] = ()


def known_error(record: RunRecord) -> KnownError | None:
    """The error to believe: of the final test, a test set, cross-validation, or validation.

    While active learning is under way only the last one is of the models as they are.
    """
    state = record.state
    errors = state.errors if state is not None else None
    under_way = state is not None and state.active is not None and not record.is_done
    if under_way and (errors is None or errors.test is None):
        return _last_round(record)
    if errors is not None and errors.test is not None and errors.test.n_points:
        test = errors.test
        where = "structures that MD with the final models came to"
        return KnownError(test.mae_forces, test.mae_energy_per_atom, test.n_points, where)
    phase = "final" if record.is_done else "initial"
    for entry in reversed(record.events.of("test")):
        of_all = entry["model"] == "ensemble_mean" and not entry["system"]
        if of_all and entry["points"] == "held out" and entry["phase"] == phase:
            where = "structures held out for the test (mean of the ensemble)"
            maes = entry["mae_forces"], entry["mae_energy_per_atom"]
            return KnownError(*maes, entry["n_points"], where)
    if errors is not None:
        unseen = errors.unseen
        where = "labels that a member was not trained on (cross-validation)"
        return KnownError(unseen.mae_forces, unseen.mae_energy_per_atom, unseen.n_points, where)
    return _last_round(record)


def _last_round(record: RunRecord) -> KnownError | None:
    rounds = record.events.of("ensemble")
    if not rounds:
        return None
    last = rounds[-1]
    where = "validation points, in the last training round"
    return KnownError(last["mae_forces"], math.nan, last["n_validation"], where)


def verdict(record: RunRecord) -> Verdict:
    """What a reader in a hurry needs to know."""
    found, wanted = known_error(record), record.settings.get("ACTIVE_LEARNING.desired_acc")
    warnings = list(record.notes)
    if record.state is not None and record.state.errors is not None:
        warnings += contradictions(record.state.errors)
    sentences = [_error_sentence(record, found)]
    if found is not None and isinstance(wanted, int | float):
        reached = found.forces <= wanted
        sentences.append(
            f"{1000 * wanted:g} meV/Å {'were' if wanted != 0.001 else 'was'} asked for: "
            + ("reached." if reached else "not reached." if record.is_done else "not reached yet.")
        )
    else:
        reached = False
    if not record.is_done:
        return Verdict("open", _unfinished(record), " ".join(sentences), warnings)
    state = record.state
    assert state is not None
    if state.stop_reason:
        sentences.append(f"Active learning ended because {_as_clause(state.stop_reason)}.")
    if warnings:
        headline = "Finished, but what is known of the errors contradicts itself"
        return Verdict("caution", headline, " ".join(sentences), warnings)
    if reached:
        return Verdict("good", "Finished: as accurate as asked for", " ".join(sentences))
    if "label_budget" in state.stop_reason:
        return Verdict("open", "Finished: the label budget is used up", " ".join(sentences))
    return Verdict("caution", "Finished, less accurate than asked for", " ".join(sentences))


def _as_clause(reason: str) -> str:
    return reason.rstrip(".")


def _error_sentence(record: RunRecord, found: KnownError | None) -> str:
    if found is None:
        return "No model has been trained yet."
    energy = ""
    if math.isfinite(found.energy_per_atom):
        energy = f", of the energies {mev(found.energy_per_atom, 2)} meV/atom"
    size = mean_force(record)
    share = f" ({100 * found.forces / size:.1f} % of the mean force component)" if size else ""
    number = f"{found.n_structures} " if found.n_structures else ""
    return (
        f"Mean absolute error of the forces: {mev(found.forces)} meV/Å{share}{energy}, on "
        f"{number}{found.where}."
    )


def mean_force(record: RunRecord) -> float:
    """Mean absolute force component of the labels, in eV/A; 0 without any."""
    forces = [label.forces.ravel() for label in record.good]
    return float(np.abs(np.concatenate(forces)).mean()) if forces else 0.0


def _unfinished(record: RunRecord) -> str:
    if record.state is None:
        stage = "before its first snapshot"
    elif record.state.stage is Stage.INITIAL_DONE:
        return "The initial dataset is done; active learning has not begun"
    else:
        stage = str(record.state.stage)
    when = ""
    if record.last_sign is not None:
        when = f", last sign of life {_date(record.last_sign)}"
    return f"Not finished: {stage}{when}"


def _date(unix: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix))


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
        foundation = get("ACTIVE_LEARNING.foundation_model")
        start = f", fine-tuned from {foundation}" if foundation else ""
        size, seed = get("ACTIVE_LEARNING.ensemble_size"), get("GENERAL.seed")
        yield "models", f"{size} members, {models}{start}, seed {seed}"
    wanted = get("ACTIVE_LEARNING.desired_acc")
    if wanted is not None:
        yield "force error wanted", f"{1000 * wanted:g} meV/Å"
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
