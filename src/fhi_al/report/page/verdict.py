"""What a reader in a hurry needs to know: how good the models are, and whether to believe it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fhi_al.core.reported_errors import contradictions
from fhi_al.core.run_state import Stage
from fhi_al.report.page.figures import mev
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
    found, wanted = known_error(record), record.wanted_error
    warnings = list(record.notes)
    if record.state is not None and record.state.errors is not None:
        warnings += contradictions(record.state.errors)
    sentences = [_error_sentence(record, found)]
    if found is not None and wanted is not None:
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
    if wanted is None:
        return Verdict("open", "Finished", " ".join(sentences))
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
