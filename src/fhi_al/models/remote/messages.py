"""Messages between rank 0 and the ranks that train and predict for it.  Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fhi_al.core.label import Label
from fhi_al.core.structure import Array
from fhi_al.models.interface import EpochRecord, Geometry, InferenceWeights, Prediction

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
class MemberUpdate:
    """What is new about a member since the training round before.

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
class TrainingRequest:
    """One rank's part of a training round: what to train, and the labels it does not have."""

    training_round: int
    n_epochs: int
    labels: tuple[Label, ...]
    members: tuple[MemberUpdate, ...]


@dataclass(frozen=True)
class TrainingResult:
    """What came of a request.

    Parameters
    ----------
    training_round : int
    records : tuple of EpochRecord
    states : dict
        Member -> its state with arrays; empty if the training round was given up or failed.
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
    """A structure on its way: (n_atoms,) numbers, (n_atoms, 3) positions and (3, 3) cell in A.

    `place` is that of a trajectory among those that move together; None of any other structure.
    """

    numbers: NDArray[np.int64]
    positions: Array
    cell: Array
    pbc: NDArray[np.bool_]
    place: int | None = None

    @classmethod
    def of(cls, geometry: Geometry) -> SentGeometry:
        """What a prediction needs of a structure."""
        return cls(
            np.asarray(geometry.numbers),
            np.array(geometry.positions, dtype=np.float64),
            np.array(geometry.cell, dtype=np.float64),
            np.array(geometry.pbc, dtype=bool),
            getattr(geometry, "place", None),
        )


@dataclass(frozen=True)
class PredictionTask:
    """One member, and the structures of the request for which it is wanted: first <= i < last."""

    member: int
    first: int
    last: int


@dataclass(frozen=True, eq=False)
class PredictionRequest:
    """What one rank is to predict.

    Parameters
    ----------
    geometries : tuple of SentGeometry
    tasks : tuple of PredictionTask
    weights : dict
        Member -> weights to predict with, where they are others than the rank has been sent.
    dtype : str
        Precision to predict in.
    stress : bool
        Predict the stress, too.
    """

    geometries: tuple[SentGeometry, ...]
    tasks: tuple[PredictionTask, ...]
    weights: dict[int, InferenceWeights]
    dtype: str
    stress: bool = False


@dataclass(frozen=True, eq=False)
class MemberPrediction:
    """What one member predicts for one structure.

    Parameters
    ----------
    energy : float
        In eV.
    forces : (n_atoms, 3)
        In eV/A.
    stress : (3, 3) or None
        In eV/A^3; None if it was not asked for.
    """

    energy: float
    forces: Array
    stress: Array | None

    @classmethod
    def of(cls, found: Prediction) -> MemberPrediction:
        """A prediction of one member."""
        stress = None if found.stress is None else found.stress[0]
        return cls(float(found.energies[0]), found.forces[0], stress)


@dataclass(frozen=True, eq=False)
class PredictionResult:
    """What came of a request.

    Parameters
    ----------
    predicted : tuple
        For each task, for each of its structures.
    seconds : float
        Spent on it.
    failure : str
        What went wrong; empty if nothing did.
    """

    predicted: tuple[tuple[MemberPrediction, ...], ...]
    seconds: float
    failure: str = ""


def assigned(
    n_geometries: int, members: tuple[int, ...], ranks: tuple[int, ...]
) -> dict[int, tuple[PredictionTask, ...]]:
    """Who predicts what: rank -> its tasks.

    A member's structures stay together as long as there are members for all ranks, because a batch
    is cheaper than its parts; with fewer members than ranks the structures are divided, too.
    """
    n_parts = max(1, min(len(ranks) // len(members), n_geometries)) if members else 1
    ends = [n_geometries * part // n_parts for part in range(n_parts + 1)]
    tasks: dict[int, list[PredictionTask]] = {}
    for place, member in enumerate(members):
        for part in range(n_parts):
            rank = ranks[(place * n_parts + part) % len(ranks)]
            tasks.setdefault(rank, []).append(PredictionTask(member, ends[part], ends[part + 1]))
    return {rank: tuple(theirs) for rank, theirs in tasks.items()}
