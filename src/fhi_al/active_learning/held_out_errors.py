"""Errors on the test set: measured, logged, journalled."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict

from fhi_al.core.held_out import PredictionErrors, prediction_errors
from fhi_al.core.label import Label
from fhi_al.models.interface import Prediction, Predictor
from fhi_al.report.journal import Journal

log = logging.getLogger(__name__)

# Structures predicted at a time, which bounds what is held of them.
_AT_ONCE = 200
HELD_OUT = "held out"
SANITY = "sanity checks"
FINAL_MD = "MD of the final models"
_GROUPS = {"sanity": SANITY, "test": FINAL_MD}


def group_of(label: Label) -> str:
    """Which of the test sets a label is in."""
    return _GROUPS.get(label.origin.phase, HELD_OUT)


def report_test_errors(
    phase: str,
    labels: Sequence[Label],
    predictor: Predictor,
    member_names: Sequence[str],
    journal: Journal,
) -> float | None:
    """Measure the errors of the ensemble's mean and of each member with the weights as they are.

    Parameters
    ----------
    phase : str
        "initial" or "final".
    labels : sequence of Label
        Points that no member has seen; sanity checks, and the structures of the final models' MD,
        are reported apart.
    predictor : Predictor
    member_names : sequence of str
        For the tables.
    journal : Journal

    Returns
    -------
    float or None
        Force MAE in eV/A of the mean on the points that were held out; None without any.
    """
    groups: dict[str, list[Label]] = {HELD_OUT: [], SANITY: [], FINAL_MD: []}
    for label in labels:
        groups[group_of(label)].append(label)
    maes: dict[str, float] = {}
    for group, chosen in groups.items():
        if not chosen:
            continue
        predicted = _predicted(chosen, predictor)
        for name, places in _by_system(chosen).items():
            of_it = [chosen[k] for k in places]
            found = _errors(of_it, [predicted[k] for k in places], member_names)
            for model, errors in found.items():
                entry = {"phase": phase, "points": group, "model": model, "system": name}
                journal.add("test", **entry, **asdict(errors))
                _log_errors(f"{group}, {name}" if name else group, model, errors)
                maes.setdefault(group, errors.mae_forces)
    return maes.get(HELD_OUT)


def _by_system(labels: Sequence[Label]) -> dict[str, list[int]]:
    """Places of all labels under the empty name, and of each system's, where there are several."""
    found: dict[str, list[int]] = {"": list(range(len(labels)))}
    if len({label.system for label in labels}) > 1:
        for place, label in enumerate(labels):
            name = label.origin.system or f"system {label.system}"
            found.setdefault(name, []).append(place)
    return found


def _predicted(labels: Sequence[Label], predictor: Predictor) -> list[Prediction]:
    predicted: list[Prediction] = []
    with_stress = any(label.stress is not None for label in labels)
    for first in range(0, len(labels), _AT_ONCE):
        some = labels[first : first + _AT_ONCE]
        predicted += predictor.as_trained.predict(some, stress=with_stress)
    return predicted


def _errors(
    labels: Sequence[Label], predicted: Sequence[Prediction], member_names: Sequence[str]
) -> dict[str, PredictionErrors]:
    """Errors by model, those of the mean first."""
    mean = prediction_errors(
        labels,
        [float(each.energies.mean()) for each in predicted],
        [each.forces.mean(axis=0) for each in predicted],
        [each.stress.mean(axis=0) for each in predicted if each.stress is not None] or None,
    )
    return {"ensemble_mean": mean} | {
        name: prediction_errors(
            labels,
            [float(each.energies[k]) for each in predicted],
            [each.forces[k] for each in predicted],
            [each.stress[k] for each in predicted if each.stress is not None] or None,
        )
        for k, name in enumerate(member_names)
    }


def _log_errors(group: str, model: str, errors: PredictionErrors) -> None:
    log.info(
        "test set, %s, %d points, %s: forces MAE %.4f, RMSE %.4f, worst 1 %% %.4f eV/A; energy "
        "MAE %.5f, RMSE %.5f eV/atom",
        group,
        errors.n_points,
        model,
        errors.mae_forces,
        errors.rmse_forces,
        errors.worst_forces,
        errors.mae_energy_per_atom,
        errors.rmse_energy_per_atom,
    )
    if errors.mae_stress is not None and errors.rmse_stress is not None:
        log.info(
            "test set, %s, %s: stress MAE %.5f, RMSE %.5f eV/A^3",
            group,
            model,
            errors.mae_stress,
            errors.rmse_stress,
        )
