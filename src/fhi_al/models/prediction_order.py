"""What rank 0 and the ranks that help it predict tell each other.  Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fhi_al.core.structure import Array

PREDICT = "predict"


@dataclass(frozen=True, eq=False)
class SentGeometry:
    """A structure on its way: (n_atoms,) numbers, (n_atoms, 3) positions and (3, 3) cell in A."""

    numbers: NDArray[np.int64]
    positions: Array
    cell: Array
    pbc: bool


@dataclass(frozen=True)
class PredictionTask:
    """One member, and the structures of the order for which it is wanted: first <= i < last."""

    member: int
    first: int
    last: int


@dataclass(frozen=True, eq=False)
class PredictionOrder:
    """What one rank is to predict.

    Parameters
    ----------
    geometries : tuple of SentGeometry
    tasks : tuple of PredictionTask
    weights : dict
        Member -> weights of its model, where they are others than the rank has been sent.
    dtype : str
        Precision to predict in, a name of torch.
    """

    geometries: tuple[SentGeometry, ...]
    tasks: tuple[PredictionTask, ...]
    weights: dict[int, dict[str, Any]]
    dtype: str


@dataclass(frozen=True, eq=False)
class PredictionAnswer:
    """What came of an order.

    Parameters
    ----------
    found : tuple
        For each task, for each of its structures: energy in eV and (n_atoms, 3) forces in eV/A.
    seconds : float
        Spent on it.
    trouble : str
        What went wrong; empty if nothing did.
    """

    found: tuple[tuple[tuple[float, Array], ...], ...]
    seconds: float
    trouble: str = ""


def dealt(
    n_geometries: int, members: tuple[int, ...], ranks: tuple[int, ...]
) -> dict[int, tuple[PredictionTask, ...]]:
    """Who predicts what: rank -> its tasks.

    A member's structures stay together as long as there are members for all ranks, because a batch
    is cheaper than its parts; with fewer members than ranks the structures are dealt out too.
    """
    n_parts = max(1, min(len(ranks) // len(members), n_geometries)) if members else 1
    ends = [n_geometries * part // n_parts for part in range(n_parts + 1)]
    tasks: dict[int, list[PredictionTask]] = {}
    for place, member in enumerate(members):
        for part in range(n_parts):
            rank = ranks[(place * n_parts + part) % len(ranks)]
            tasks.setdefault(rank, []).append(PredictionTask(member, ends[part], ends[part + 1]))
    return {rank: tuple(theirs) for rank, theirs in tasks.items()}
