"""FHI_AL: active learning of MACE force fields with as few DFT calculations as possible.

Public: :func:`open_run`, :class:`InitialDatasetProcedure`, :class:`ActiveLearningProcedure`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fhi_al.active_learning.active_learning import ActiveLearningProcedure
    from fhi_al.active_learning.initial_dataset import InitialDatasetProcedure
    from fhi_al.app.open import open_run

__all__ = ["ActiveLearningProcedure", "InitialDatasetProcedure", "open_run"]

_HOMES = {
    "ActiveLearningProcedure": "fhi_al.active_learning.active_learning",
    "InitialDatasetProcedure": "fhi_al.active_learning.initial_dataset",
    "open_run": "fhi_al.app.open",
}


def __getattr__(name: str) -> Any:
    # Late, so that a labelling rank, which imports only fhi_al.parallel.mpi, loads no torch.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
