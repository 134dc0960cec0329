"""Runs whose models start from a foundation model: settings that are completed from it, checks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ase.calculators.calculator import BaseCalculator

from fhi_al.settings import Settings, SettingsError
from fhi_al.settings.architecture import Architecture
from fhi_al.settings.foundation_model import with_architecture
from fhi_al.settings.mace import MaceSettings

FETCH_TIMEOUT_S = 5.0
KEY = "ARCHITECTURE.foundation_model"


def is_fine_tuned(settings: Settings) -> bool:
    """Whether the models start from a foundation model."""
    return _architecture(settings) is not None


def _architecture(settings: Settings) -> Architecture | None:
    """The section ARCHITECTURE, if it names a foundation model."""
    found = settings.mace.architecture if settings.mace is not None else None
    named = isinstance(found, Architecture) and found.foundation_model is not None
    return found if named and isinstance(found, Architecture) else None


def with_foundation(settings: Settings) -> Settings:
    """The settings with the network of the foundation model, where there is one.

    Raises
    ------
    SettingsError
        If the model cannot be had or used, or keys contradict it.
    """
    architecture = _architecture(settings)
    if architecture is None:
        return settings
    problem = _licence_problem(architecture) or _problem(settings, architecture)
    if problem is not None:
        raise SettingsError([settings.problem("mace", KEY, problem)])
    return with_architecture(settings, _found(settings, architecture).architecture)


def replays(settings: Settings) -> bool:
    """Whether structures of the foundation model are trained on, too."""
    mace = settings.mace
    return is_fine_tuned(settings) and mace is not None and mace.training.fine_tuning == "replay"


def model_settings(settings: Settings, replay_file: Path | None = None) -> MaceSettings:
    """The settings of the models, with paths that do not depend on the run's folder.

    Parameters
    ----------
    settings : Settings
    replay_file : Path or None
        Structures of the replay, if there is one.
    """
    mace = settings.mace
    assert mace is not None
    updates: dict[str, Any] = {}
    architecture = _architecture(settings)
    if architecture is not None:
        name = _given(settings, architecture)
        updates["architecture"] = architecture.model_copy(update={"foundation_model": name})
    if replay_file is not None:
        updates["training"] = mace.training.model_copy(update={"replay_file": replay_file})
    return mace.model_copy(update=updates) if updates else mace


def calculator(settings: Settings) -> BaseCalculator:
    """The foundation model as ASE's calculator."""
    from fhi_al.models.mace import foundation

    architecture, mace = _architecture(settings), settings.mace
    assert architecture is not None and mace is not None
    found = _found(settings, architecture)
    return foundation.calculator(found, mace.misc.device, mace.general.default_dtype)


def problems(settings: Settings, elements: list[int]) -> Iterator[str]:
    """What keeps the foundation model from being used for these elements.

    Parameters
    ----------
    settings : Settings
    elements : list of int
        Atomic numbers of the systems.
    """
    architecture, mace = _architecture(settings), settings.mace
    if architecture is None or mace is None:
        return
    found = _found(settings, architecture)
    missing = found.missing(elements)
    if missing:
        yield str(settings.problem("mace", KEY, found.lacks(missing)))
    if not replays(settings) or mace.training.replay_file is None:
        return
    from fhi_al.models.mace.replay import structures_of

    known = elements if architecture.foundation_elements == "run" else found.elements
    try:
        structures_of(settings.resolve(mace.training.replay_file), known)
    except ValueError as error:
        yield str(settings.problem("mace", "TRAINING.replay_file", str(error)))


def notes(settings: Settings) -> list[str]:
    """What the user should know of the foundation model: its licence."""
    architecture = _architecture(settings)
    if architecture is None:
        return []
    from fhi_al.models.mace.menu import menu

    entry = menu().get(str(architecture.foundation_model))
    return [] if entry is None else [f"foundation model {entry.name}: {entry.licence}"]


def _given(settings: Settings, architecture: Architecture) -> str:
    """The name on MACE's menu, or the absolute path."""
    from fhi_al.models.mace.menu import menu

    given = str(architecture.foundation_model)
    return given if given in menu() else str(settings.resolve(Path(given)))


def _licence_problem(architecture: Architecture) -> str | None:
    from fhi_al.models.mace.menu import menu

    entry = menu().get(str(architecture.foundation_model))
    if entry is None or not entry.restricted or architecture.accept_licence:
        return None
    return (
        f"is under the {entry.licence}. If you accept that, set ARCHITECTURE.accept_licence to true"
    )


def _problem(settings: Settings, architecture: Architecture) -> str | None:
    from fhi_al.models.mace.menu import menu

    entry = menu().get(str(architecture.foundation_model))
    problem = entry.problem(FETCH_TIMEOUT_S) if entry is not None else None
    if problem is not None:
        return problem
    try:
        _found(settings, architecture)
    except ValueError as error:
        return str(error)
    return None


def _found(settings: Settings, architecture: Architecture) -> Any:
    # Imported here: it takes MACE, which other runs read their settings without.
    from fhi_al.models.mace.foundation import foundation

    return foundation(_given(settings, architecture), architecture.foundation_head)
