"""Where model backends are found: MACE's, entry points, and classes by their import path.

The code of a backend is imported only when it is built.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fhi_al.models.interface import ModelBackend
from fhi_al.settings.model_backends import declaration


def new_backend(settings: Any, elements: Sequence[int], device: str | None = None) -> ModelBackend:
    """The backend that settings name, for some elements.

    Parameters
    ----------
    settings
        Of mace_settings.yaml; ``settings.backend`` is a name or an import path.
    elements
        Atomic numbers of all systems.
    device
        Instead of ``MISC.device``.

    Raises
    ------
    ValueError
        If there is no such backend, or it refuses a setting.
    """
    kind = declaration(settings.backend).load()
    backend: ModelBackend = kind(settings, tuple(int(number) for number in elements), device)
    return backend
