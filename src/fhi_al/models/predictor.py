"""What members predict for many structures at once, in batches of bounded size.

Owns the splitting; where the models come from, and on which rank they are, is for its users.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fhi_al.models.devices import batch_limits
from fhi_al.models.interface import (
    Geometry,
    InferenceModel,
    ModelBackend,
    Prediction,
    Predictor,
    Sample,
)
from fhi_al.models.out_of_memory import in_halves, parts


class LocalPredictor:
    """Predicts in this process.

    Parameters
    ----------
    backend : ModelBackend
    model : callable
        Member -> its model; all of one precision.
    n_members : int
    as_trained : Predictor, optional
        The same models in the precision they are trained in, if that is another.
    """

    def __init__(
        self,
        backend: ModelBackend,
        model: Callable[[int], InferenceModel],
        n_members: int,
        as_trained: Predictor | None = None,
    ) -> None:
        self._backend = backend
        self._model = model
        self._n_members = n_members
        self._as_trained = as_trained

    @property
    def as_trained(self) -> Predictor:
        """See :attr:`fhi_al.models.interface.Predictor.as_trained`."""
        return self._as_trained or self

    def predict(
        self,
        geometries: Sequence[Geometry],
        members: Sequence[int] | None = None,
        *,
        stress: bool = False,
    ) -> list[Prediction]:
        """See :meth:`fhi_al.models.interface.Predictor.predict`.

        Parameters
        ----------
        geometries, members
        stress : bool
            Predict the stress, too.
        """
        chosen = range(self._n_members) if members is None else members
        samples = [self._backend.sample(geometry) for geometry in geometries]
        whole = [sample for sample in samples if sample is not None]

        def predicted(some: Sequence[Sample]) -> list[Prediction]:
            return self._backend.predict([self._model(k) for k in chosen], some, stress=stress)

        found: list[Prediction] = []
        for part in batches(whole, self._backend):
            found += in_halves(part, predicted, what_frees_memory(self._backend))
        arrived = iter(found)
        return [
            broken(len(chosen), len(geometry.numbers), stress=stress)
            if sample is None
            else next(arrived)
            for geometry, sample in zip(geometries, samples, strict=True)
        ]


def batches(samples: Sequence[Sample], backend: ModelBackend) -> list[Sequence[Sample]]:
    """Consecutive samples that are not too large for one batch together.

    A backend may say how many pairs are: ``most_pairs``; else it is what a CPU gets.
    """
    most_pairs = int(getattr(backend, "most_pairs", batch_limits("cpu").most_pairs))
    sizes = [sample.n_pairs for sample in samples]
    return [samples[part.start : part.stop] for part in parts(sizes, most_pairs)]


def what_frees_memory(backend: ModelBackend) -> Callable[[], bool] | None:
    """What is tried before a batch is halved: see :func:`fhi_al.models.out_of_memory.in_halves`.

    A backend may have it: ``free_memory``.
    """
    found: Callable[[], bool] | None = getattr(backend, "free_memory", None)
    return found


def broken(n_members: int, n_atoms: int, *, stress: bool = False) -> Prediction:
    """The prediction for a broken structure."""
    return Prediction(
        np.full(n_members, np.nan),
        np.full((n_members, n_atoms, 3), np.nan),
        np.full((n_members, 3, 3), np.nan) if stress else None,
    )
