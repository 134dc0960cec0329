"""Models of files, each with its own elements and cutoff, that predict together.  Trains nothing.

Knows no kind of model and reads no file: who does hands over the models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fhi_al.models.interface import (
    Geometry,
    InferenceModel,
    ModelBackend,
    Prediction,
    Predictor,
)
from fhi_al.models.predictor import LocalPredictor


@dataclass(frozen=True, eq=False)
class FileModel:
    """A model of a file, ready to predict.

    Parameters
    ----------
    path : Path
    backend : ModelBackend
        Of its elements and cutoff; models that share one share the neighbours of a structure.
    model : InferenceModel
        In the precision that is predicted with.
    """

    path: Path
    backend: ModelBackend
    model: InferenceModel

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that it knows, sorted."""
        return self.backend.elements

    @property
    def r_max(self) -> float:
        """Cutoff radius in A."""
        return self.backend.r_max


class FilesPredictor:
    """A :class:`fhi_al.models.interface.Predictor` of models that may differ in all but precision.

    Parameters
    ----------
    files : sequence of FileModel
        Its members, at least one.
    """

    def __init__(self, files: Sequence[FileModel]) -> None:
        self.files = tuple(files)

    @property
    def as_trained(self) -> Predictor:
        """Itself: what a file was trained in is not known."""
        return self

    def predict(
        self,
        geometries: Sequence[Geometry],
        members: Sequence[int] | None = None,
        *,
        stress: bool = False,
    ) -> list[Prediction]:
        """See :meth:`fhi_al.models.interface.Predictor.predict`."""
        chosen = list(range(len(self.files)) if members is None else members)
        alike: dict[int, list[int]] = {}
        for place, member in enumerate(chosen):
            alike.setdefault(id(self.files[member].backend), []).append(place)
        found: list[list[Prediction]] = []
        for places in alike.values():
            models = [self.files[chosen[place]].model for place in places]
            backend = self.files[chosen[places[0]]].backend
            predictor = LocalPredictor(backend, models.__getitem__, len(models))
            found.append(predictor.predict(geometries, stress=stress))
        order = np.argsort([place for places in alike.values() for place in places])
        return [_joined(of_one, order) for of_one in zip(*found, strict=True)]


def _joined(parts: Sequence[Prediction], order: np.ndarray) -> Prediction:
    stress = [part.stress for part in parts if part.stress is not None]
    return Prediction(
        np.concatenate([part.energies for part in parts])[order],
        np.concatenate([part.forces for part in parts])[order],
        np.concatenate(stress)[order] if stress else None,
    )
