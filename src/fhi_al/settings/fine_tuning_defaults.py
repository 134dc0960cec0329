"""What both settings files say together of models that start from a foundation model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fhi_al.settings.checked_file import CheckedFile
from fhi_al.settings.problems import Problem

# Of keys that a file leaves out; measured, see docs/reference/benchmarks.md.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "TRAINING": {"lr": 5e-3},
    "ACTIVE_LEARNING": {"n_samples": 2},
}


def is_fine_tuned(files: Mapping[str, CheckedFile]) -> bool:
    """Whether the models start from a foundation model."""
    mace = files.get("mace")
    return mace is not None and mace.value("ARCHITECTURE.foundation_model") is not None


def with_defaults(checked: CheckedFile) -> CheckedFile:
    """A file with these defaults in place of the usual ones."""
    blocks = dict(checked.blocks)
    for section, defaults in DEFAULTS.items():
        chosen = {key: v for key, v in defaults.items() if f"{section}.{key}" not in checked.given}
        if section in blocks and chosen:
            blocks[section] = tuple(one.model_copy(update=chosen) for one in blocks[section])
    return replace(checked, blocks=blocks)


def fine_tuning_problems(files: Mapping[str, CheckedFile]) -> list[Problem]:
    """What keeps a run from beginning without an initial dataset."""
    label = "ACTIVE_LEARNING.initial_sampling"
    al, mace = files["active_learning"], files.get("mace")
    if mace is None or al.value(label) != "none" or label in al.refused:
        return []
    if not is_fine_tuned(files):
        message = (
            "random weights cannot drive MD. Give ARCHITECTURE.foundation_model in"
            " mace_settings.yaml, or another source of the initial dataset"
        )
        return [al.problem(label, message)]
    has_data = al.value("ACTIVE_LEARNING.initial_data") is not None
    if mace.value("TRAINING.readouts") == "kept" and not has_data:
        message = (
            "members that begin with the same weights agree everywhere, and without an initial"
            " dataset (initial_sampling: none) no label would ever be asked for. Use perturbed or"
            " reinitialised"
        )
        return [mace.problem("TRAINING.readouts", message)]
    return []
