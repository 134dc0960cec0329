"""Messages between rank 0 and the ranks that train and predict for it.  Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fhi_al.core.label import Label
from fhi_al.core.structure import Array

if TYPE_CHECKING:
    from fhi_al.models.training import EpochRecord

SETUP, TRAIN, PREDICT = "train setup", "train", "predict"


@dataclass(frozen=True)
class TrainingSetup:
    """What a training rank builds its members from.

    Parameters
    ----------
    settings
        Of mace_settings.yaml.
    elements, seeds : tuple of int
        As for rank 0's ensemble.
    members : tuple of int
        Those that are trained on this rank.
    valid_skip : int
        Epochs between validations.
    threads : int or None
        Of torch; None for ``MISC.num_threads``.
    local_index : int
        Which of the training ranks on its host this is, counted from 0.
    """

    settings: Any
    elements: tuple[int, ...]
    seeds: tuple[int, ...]
    members: tuple[int, ...]
    valid_skip: int
    threads: int | None
    local_index: int


@dataclass(frozen=True)
class MemberOrder:
    """What is new about a member since the visit before.

    Parameters
    ----------
    member : int
    training, validation : tuple of str
        Keys of labels to append to its sets.
    state : dict or None
        To begin from, with arrays; None for the one that the rank has.
    """

    member: int
    training: tuple[str, ...]
    validation: tuple[str, ...]
    state: dict[str, Any] | None


@dataclass(frozen=True)
class TrainingOrder:
    """One visit of one rank: its number, what to train, and the labels the rank does not have."""

    training_round: int
    n_epochs: int
    labels: tuple[Label, ...]
    members: tuple[MemberOrder, ...]


@dataclass(frozen=True)
class TrainingAnswer:
    """What came of an order.

    Parameters
    ----------
    training_round : int
    records : tuple of EpochRecord
    states : dict
        Member -> its state with arrays; empty if the visit was given up or failed.
    seconds : float
        Spent on it.
    failure : str
        What went wrong; empty if nothing did.
    """

    training_round: int
    records: tuple[EpochRecord, ...]
    states: dict[int, dict[str, Any]]
    seconds: float
    failure: str = ""


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
    failure : str
        What went wrong; empty if nothing did.
    """

    found: tuple[tuple[tuple[float, Array], ...], ...]
    seconds: float
    failure: str = ""


def assigned(
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
