"""Errors of models on labelled structures: what is computed, written and said of them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ase import units

from fhi_al.app.evaluate.data import EvaluatedData
from fhi_al.app.evaluate.models import EvaluatedModels
from fhi_al.app.evaluate.report import Part
from fhi_al.core.errors import InputError
from fhi_al.evaluation.errors import ModelErrors, Spread, force_scale, model_errors, spread_of
from fhi_al.evaluation.figures import draw_parity
from fhi_al.evaluation.limits import (
    ENERGY_MAE,
    FORCE_RMSE,
    SPREAD_RANK,
    STRESS_RMSE,
    Judgement,
)
from fhi_al.evaluation.predictions import mean_of, predicted
from fhi_al.evaluation.tables import error_table, part_tables
from fhi_al.evaluation.worst import write_worst
from fhi_al.report.command_status import CommandProgress
from fhi_al.report.pulse import Pulse
from fhi_al.report.status import Bar

log = logging.getLogger(__name__)

PARITY, WORST = "parity.png", "worst.xyz"
MEAN = "ensemble mean"


def errors_on(
    models: EvaluatedModels,
    data: EvaluatedData,
    output: Path,
    n_worst: int,
    check_stop: Callable[[], None],
    progress: CommandProgress,
) -> Part:
    """Errors of each model, of the mean of several, and their spread; writes figure and structures.

    Parameters
    ----------
    models : EvaluatedModels
    data : EvaluatedData
    output : Path
        Folder.
    n_worst : int
        Structures that are written out.
    check_stop : callable
        Called now and then.
    progress : CommandProgress
        Is told how many are predicted.

    Raises
    ------
    InputError
        If predictions are not finite.
    """
    structures, names, pulse = data.structures, models.names, Pulse()

    progress.begin("errors", Bar("structures", 0, len(structures)))

    def between(n_done: int) -> None:
        check_stop()
        progress.reach("structures", n_done)
        if pulse.is_due():
            log.info("%d of %d structures are predicted", n_done, len(structures))

    try:
        each = predicted(models.predictor, len(names), structures, between)
    except ValueError as error:
        raise InputError([f"{data.source}: {error}."]) from error
    progress.reach("structures", len(structures))
    errors = {n: model_errors(structures, one) for n, one in zip(names, each, strict=True)}
    judged, whose, spread = each[0], names[0], None
    if len(each) > 1:
        judged, whose = mean_of(each), MEAN
        errors[MEAN] = model_errors(structures, judged)
        spread = spread_of(structures, each)
    uncertainties = None if spread is None else spread.uncertainties
    write_worst(output / WORST, structures, judged, uncertainties, n_worst)
    draw_parity(output / PARITY, structures, judged, spread, whose)
    return _part(models, data, errors, spread)


def _part(
    models: EvaluatedModels,
    data: EvaluatedData,
    errors: dict[str, ModelErrors],
    spread: Spread | None,
) -> Part:
    """In words and numbers; the last errors are those that are judged."""
    structures, whose = data.structures, list(errors)[-1]
    scale = force_scale(structures)
    n_atoms = sum(len(one.label.numbers) for one in structures)
    head = (
        f"{data.source}: {len(structures)} structures, {n_atoms} atoms, rms force {scale:.3f} eV/A"
    )
    lines = [head, "", *error_table(errors), "", *part_tables(errors[whose], whose)]
    if spread is not None:
        lines += ["", spread.described()]
    paths = [str(one.path) for one in models.files]
    values: dict[str, Any] = {
        "on": data.source,
        "n_structures": len(structures),
        "n_atoms": n_atoms,
        "rms_force": scale,
        "units": "eV, eV/A, eV/A^3",
        "models": dict(zip(paths, models.names, strict=True)),
        "errors": {name: one.as_plain() for name, one in errors.items()},
    }
    if spread is not None and spread.fit is not None:
        values["spread"] = asdict(spread.fit)
    return Part(lines, values, _judgements(errors[whose], scale, spread))


def _judgements(errors: ModelErrors, scale: float, spread: Spread | None) -> list[Judgement]:
    energies = errors.energy_without_constants or errors.energy_per_atom
    found = [
        Judgement(FORCE_RMSE, 100 * errors.forces.rmse / scale if scale else float("inf")),
        Judgement(ENERGY_MAE, 1000 * energies.mae),
    ]
    if errors.stress is not None:
        found.append(Judgement(STRESS_RMSE, errors.stress.rmse / units.GPa))
    if spread is not None and spread.fit is not None and spread.fit.spearman is not None:
        found.append(Judgement(SPREAD_RANK, spread.fit.spearman))
    return found
