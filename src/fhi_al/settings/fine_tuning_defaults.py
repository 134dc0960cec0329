"""Defaults that are others where the models start from a foundation model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fhi_al.settings.checked_file import CheckedFile

# Of keys that a file leaves out; measured, see docs/benchmarks.md.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "TRAINING": {"lr": 1e-3},
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
