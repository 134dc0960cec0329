"""Descriptors of structures, in batches of bounded size, with a model's weights as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fhi_al.core.structure import Array
from fhi_al.models.interface import Geometry, InferenceModel, ModelBackend, Sample
from fhi_al.models.out_of_memory import in_halves
from fhi_al.models.predictor import batches, what_frees_memory

# Samples held at a time.
_MOST_STRUCTURES = 200


class Descriptors:
    """Describes atoms by one model of the ensemble.

    One model only: every member has a feature space of its own, so that a mean over members would
    mean nothing, and their features side by side would cost a forward pass each and tell little
    more of which structures are alike.

    Parameters
    ----------
    backend : ModelBackend
    model : callable
        Returns the model, in the precision of training.
    """

    def __init__(self, backend: ModelBackend, model: Callable[[], InferenceModel]) -> None:
        self._backend = backend
        self._model = model

    def of(self, geometries: Sequence[Geometry]) -> list[Array]:
        """Invariant features of each structure's atoms: (n_atoms, n_features), no unit.

        The last bits depend on which structures are described together.

        Raises
        ------
        ValueError
            If a structure is broken: a position is not finite, or a molecule has flown apart.
        """

        def described(some: Sequence[Sample]) -> list[Array]:
            return self._backend.descriptors(self._model(), some)

        found: list[Array] = []
        for first in range(0, len(geometries), _MOST_STRUCTURES):
            samples = [self._sample(one) for one in geometries[first : first + _MOST_STRUCTURES]]
            for part in batches(samples, self._backend):
                found += in_halves(part, described, what_frees_memory(self._backend))
        return found

    def _sample(self, geometry: Geometry) -> Sample:
        sample = self._backend.sample(geometry)
        if sample is None:
            raise ValueError("a structure that is broken has no descriptors")
        return sample
