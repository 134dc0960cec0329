"""Settings made of Python values: the keys of the two files, checked by the same rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fhi_al.settings.keys import Layout, keys_of
from fhi_al.settings.model_backends import ModelDeclaration
from fhi_al.settings.problems import Problem, SettingsError, nearest
from fhi_al.settings.reading import checked_settings
from fhi_al.settings.resolved import Settings
from fhi_al.settings.yaml_reading import Document

# MD may have several blocks.
Sections = Mapping[str, Mapping[str, Any] | Sequence[Mapping[str, Any]]]


def settings_from(
    mace: Sections,
    active_learning: Sections,
    folder: Path,
    source: str,
    models: ModelDeclaration,
) -> Settings:
    """Validated settings of sections with keys, which need not be complete.

    Parameters
    ----------
    mace, active_learning : mapping
        Section -> key -> value, as in the two files.
    folder : Path
        Which relative paths count from.
    source : str
        What messages name instead of a file.
    models : ModelDeclaration
        The kind of the models.

    Raises
    ------
    SettingsError
        With all problems found.
    """
    given = {"mace": mace, "active_learning": active_learning}
    documents: dict[str, tuple[Document, list[Problem]]] = {
        kind: (Document(source, {name: _plain(keys) for name, keys in sections.items()}), [])
        for kind, sections in given.items()
    }
    return checked_settings(documents, folder, models)


def _plain(keys: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Any:
    return dict(keys) if isinstance(keys, Mapping) else [dict(block) for block in keys]


def in_sections(layout: Layout, keys: Mapping[str, Any], source: str) -> dict[str, dict[str, Any]]:
    """Keys without their sections, put into those of one file.

    Parameters
    ----------
    layout : mapping
        The models of the sections.
    keys : mapping
    source : str
        What messages name instead of a file.

    Raises
    ------
    SettingsError
        Naming the keys that no section has, and the nearest one that is there.
    """
    homes = {key: section for section, model in layout.items() for key in keys_of(model)}
    problems = []
    found: dict[str, dict[str, Any]] = {}
    for key, value in keys.items():
        if key in homes:
            found.setdefault(homes[key], {})[key] = value
            continue
        guess = nearest(key, homes)
        hint = f"Did you mean {guess}?" if guess else f"Expected one of {', '.join(homes)}."
        problems.append(Problem(source, None, key, f"unknown key {key}. {hint}"))
    if problems:
        raise SettingsError(problems)
    return found
