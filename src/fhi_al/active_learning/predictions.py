"""Keeps what finished models predict for labels that they have not trained on, for the report."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from fhi_al.active_learning.held_out_errors import group_of
from fhi_al.core.convergence import evenly_spread
from fhi_al.core.errors import EngineError
from fhi_al.core.label import Label
from fhi_al.models.interface import Predictor
from fhi_al.models.member import Member
from fhi_al.report.predictions import VALIDATION, Predicted, predictions_path, write_predictions

log = logging.getLogger(__name__)

# Of each set: bounds the time that they take, to that of an epoch or less, and the file.
_MOST_ATOMS = 20_000


def keep_predictions(
    folder: Path,
    phase: str,
    members: Sequence[Member],
    kept: Sequence[int],
    test: Sequence[Label],
    predictor: Predictor,
) -> None:
    """Write the predictions for the validation points of members, and for the test points.

    An error is logged, unless it is one after which the other ranks cannot go on.

    Parameters
    ----------
    folder : Path
        ``report/``.
    phase : str
        "initial" or "final".
    members : sequence of Member
        All of the ensemble.
    kept : sequence of int
        Those whose models are kept.
    test : sequence of Label
        Points that no member has seen.
    predictor : Predictor
        Of the members.
    """
    sets: dict[str, list[Label]] = {}
    validated = {label.key: label for k in kept for label in members[k].validation}
    if validated:
        sets[VALIDATION] = list(validated.values())
    for label in test:
        sets.setdefault(group_of(label), []).append(label)
    validates = [
        {label.key for label in member.validation} if member.index in kept else set()
        for member in members
    ]
    path = predictions_path(folder, phase)
    try:
        predicted = [
            one
            for points, labels in sets.items()
            for one in _predicted(points, _some(labels), validates, predictor)
        ]
        write_predictions(path, predicted, {name: len(labels) for name, labels in sets.items()})
    except EngineError:
        raise
    except Exception as error:
        log.warning("%s: %s: the report will have no parity figures", path, error)


def _some(labels: list[Label]) -> list[Label]:
    """At most so many, evenly spread."""
    largest = max(len(label.numbers) for label in labels)
    return [labels[k] for k in evenly_spread(len(labels), max(1, _MOST_ATOMS // largest))]


def _predicted(
    points: str,
    labels: Sequence[Label],
    validates: Sequence[set[str]],
    predictor: Predictor,
) -> list[Predicted]:
    found: list[Predicted] = []
    # Apart, for a molecule has no stress to be predicted.
    for with_stress in (False, True):
        some = [label for label in labels if (label.stress is not None) == with_stress]
        if not some:
            continue
        predictions = predictor.as_trained.predict(some, stress=with_stress)
        for label, prediction in zip(some, predictions, strict=True):
            counts = [points != VALIDATION or label.key in keys for keys in validates]
            found.append(Predicted.of(label.key, points, counts, prediction))
    return found
