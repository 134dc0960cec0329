"""Builds the backend of a run.  Its code is imported only then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fhi_al.models.interface import ModelBackend
from fhi_al.settings.plugins import imported


def new_backend(settings: Any, elements: Sequence[int], device: str | None = None) -> ModelBackend:
    """The backend of some settings, for some elements.

    Parameters
    ----------
    settings
        Of mace_settings.yaml; ``settings.backend_class`` is the import path of the class.
    elements
        Atomic numbers of all systems.
    device
        Instead of ``MISC.device``.

    Raises
    ------
    ValueError
        If it cannot be imported, or refuses a setting.
    """
    kind = imported(settings.backend_class)
    backend: ModelBackend = kind(settings, tuple(int(number) for number in elements), device)
    return backend
