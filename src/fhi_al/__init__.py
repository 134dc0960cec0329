"""FHI_AL: active learning of MACE force fields with as few DFT calculations as possible.

Public: :class:`ActiveLearning` and what it is made of, for runs from Python objects;
:func:`open_run`, :class:`InitialDatasetProcedure`, :class:`ActiveLearningProcedure`, for runs from
a folder's files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fhi_al.active_learning.active_learning import ActiveLearningProcedure
    from fhi_al.active_learning.initial_dataset import InitialDatasetProcedure
    from fhi_al.app.api import ActiveLearning, Result
    from fhi_al.app.choices import (
        MACE,
        Aims,
        AseCalculator,
        Backend,
        InitialDataset,
        Stop,
        System,
        TBLite,
        Threshold,
    )
    from fhi_al.app.dynamics import (
        NPT,
        NVE,
        Andersen,
        Berendsen,
        Bussi,
        Langevin,
        NoseHoover,
        Ramp,
    )
    from fhi_al.app.open import open_run
    from fhi_al.engines.engine import ReferenceResult

__all__ = [
    "MACE",
    "NPT",
    "NVE",
    "ActiveLearning",
    "ActiveLearningProcedure",
    "Aims",
    "Andersen",
    "AseCalculator",
    "Backend",
    "Berendsen",
    "Bussi",
    "InitialDataset",
    "InitialDatasetProcedure",
    "Langevin",
    "NoseHoover",
    "Ramp",
    "ReferenceResult",
    "Result",
    "Stop",
    "System",
    "TBLite",
    "Threshold",
    "open_run",
]

_HOMES = {
    "fhi_al.active_learning.active_learning": ["ActiveLearningProcedure"],
    "fhi_al.active_learning.initial_dataset": ["InitialDatasetProcedure"],
    "fhi_al.app.api": ["ActiveLearning", "Result"],
    "fhi_al.app.choices": [
        *["MACE", "Aims", "AseCalculator", "Backend"],
        *["InitialDataset", "Stop", "System", "TBLite", "Threshold"],
    ],
    "fhi_al.app.dynamics": [
        "NPT",
        "NVE",
        "Andersen",
        "Berendsen",
        "Bussi",
        "Langevin",
        "NoseHoover",
        "Ramp",
    ],
    "fhi_al.app.open": ["open_run"],
    "fhi_al.engines.engine": ["ReferenceResult"],
}


def __getattr__(name: str) -> Any:
    # Late, so that a labelling rank, which imports only fhi_al.parallel.mpi, loads no torch.
    for home, names in _HOMES.items():
        if name in names:
            import importlib

            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
