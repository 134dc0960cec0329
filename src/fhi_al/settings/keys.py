"""Which sections and keys the settings files have: the models, and what they are called there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic.fields import FieldInfo

from fhi_al.settings.active_learning import ActiveLearning, ActiveLearningMisc
from fhi_al.settings.architecture import Architecture, ModelArchitecture
from fhi_al.settings.mace import General, Misc, Training
from fhi_al.settings.md import MolecularDynamics
from fhi_al.settings.systems import System
from fhi_al.settings.value_types import Section

Layout = Mapping[str, type[Section]]

FILE_NAMES = {"mace": "mace_settings.yaml", "active_learning": "active_learning_settings.yaml"}
LAYOUTS: Mapping[str, Layout] = {
    "mace": {
        "GENERAL": General,
        "ARCHITECTURE": Architecture,
        "TRAINING": Training,
        "MISC": Misc,
    },
    "active_learning": {
        "ACTIVE_LEARNING": ActiveLearning,
        "SYSTEMS": System,
        "MD": MolecularDynamics,
        "MISC": ActiveLearningMisc,
    },
}
# Sections that may be a list of blocks.
LISTS = ("SYSTEMS", "MD")
OTHER_SPELLINGS = {"ACTIVE LEARNING": "ACTIVE_LEARNING"}


def mace_layout(architecture: type[ModelArchitecture]) -> Layout:
    """The sections of ``mace_settings.yaml`` for a kind of models."""
    return {**LAYOUTS["mace"], "ARCHITECTURE": architecture}


def keys_of(section: type[Section]) -> dict[str, FieldInfo]:
    """The fields of a section by the name they have in the file."""
    return {info.alias or name: info for name, info in section.model_fields.items()}


def keys_below(info: FieldInfo) -> type[Section] | None:
    """The model of the keys below a key; None if its value is a plain one."""
    for part in (info.annotation, *get_args(info.annotation)):
        if isinstance(part, type) and issubclass(part, Section):
            return part
    return None


def sections_of(kind: str, layout: Layout | None = None) -> dict[str, type[Section]]:
    """Every model of a file by its label: ``SECTION``, or ``SECTION.key`` of a key with keys.

    Parameters
    ----------
    kind : str
        ``mace`` or ``active_learning``.
    layout : mapping, optional
        Instead of the usual one of such a file.
    """
    found: dict[str, type[Section]] = {}
    for section, model in (LAYOUTS[kind] if layout is None else layout).items():
        found[section] = model
        for key, info in keys_of(model).items():
            below = keys_below(info)
            if below is not None:
                found[f"{section}.{key}"] = below
    return found


def key_at(kind: str, label: str, layout: Layout | None = None) -> FieldInfo:
    """The field of ``SECTION.key`` (``MD[0].key``, ``SECTION.key.key``); see :func:`sections_of`.

    Raises
    ------
    KeyError
        If there is no such key.
    """
    section, *within = label.split(".")
    key = within.pop() if within else ""
    model = (LAYOUTS[kind] if layout is None else layout).get(section.partition("[")[0])
    for name in within:
        info = None if model is None else keys_of(model).get(name)
        model = None if info is None else keys_below(info)
    found = None if model is None else keys_of(model).get(key)
    if found is None:
        raise KeyError(label)
    return found


def value_at(block: object, path: str) -> Any:
    """The value of a key (``key``, ``key.key``) in a section, or None if there is no such key."""
    key, _, rest = path.partition(".")
    if isinstance(block, Section):
        for attribute, info in type(block).model_fields.items():
            if key == (info.alias or attribute):
                value = getattr(block, attribute)
                return value_at(value, rest) if rest else value
    return None
