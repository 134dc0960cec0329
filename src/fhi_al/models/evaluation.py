"""What a member's weights give: the copies that predict, and the errors on its validation set.

Counts the changes of the weights, and makes none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fhi_al.core.label import Label
from fhi_al.core.structure import Array
from fhi_al.models.interface import (
    InferenceModel,
    InferenceWeights,
    ModelBackend,
    Sample,
    ValidationErrors,
)
from fhi_al.models.predictor import batches


class InferenceCopy:
    """A model that only predicts, brought up to date when it is asked for.

    Parameters
    ----------
    dtype : str, optional
        Its precision; that of training if it is left out.
    """

    def __init__(self, dtype: str | None = None) -> None:
        self._dtype = dtype
        self._model: InferenceModel | None = None
        self._version = -1

    def at(
        self, version: int, weights: Callable[[], InferenceWeights], backend: ModelBackend
    ) -> InferenceModel:
        """The copy, with the weights that count as `version`.

        Parameters
        ----------
        version
            The weights are taken over only if it is another than the last time.
        weights, backend
        """
        if self._model is None:
            self._model = backend.inference(self._dtype)
        if self._version != version:
            self._model.load(weights())
            self._version = version
        return self._model


class Evaluation:
    """What one member predicts with, and its validation errors.

    Parameters
    ----------
    index : int
        Of the member.
    backend : ModelBackend
    batch_size : int
        Labels in a batch of a validation, at most.
    weights : callable
        () -> the weights to predict with, as they are in training.
    """

    def __init__(
        self,
        index: int,
        backend: ModelBackend,
        batch_size: int,
        weights: Callable[[], InferenceWeights],
    ) -> None:
        self._index = index
        self._backend = backend
        self._batch_size = batch_size
        self._weights = weights
        self._weights_version = 0
        self._copy, self._spare = InferenceCopy(), InferenceCopy()
        # In a training round: what is predicted with until it ends, and the version of that.
        self._shown: tuple[InferenceModel, int] | None = None
        self._last: tuple[tuple[int, int], ValidationErrors] | None = None

    @property
    def model(self) -> InferenceModel:
        """What to predict with, see :attr:`fhi_al.models.member.Member.inference_model`."""
        return self._model_as_it_is() if self._shown is None else self._shown[0]

    @property
    def version(self) -> int:
        """Goes up whenever what is predicted changes."""
        return self._weights_version if self._shown is None else self._shown[1]

    def weights_changed(self) -> None:
        """The weights or normalisation constants are others than before."""
        self._weights_version += 1

    def begin_round(self) -> None:
        """Keep predictions as they are from here on, while the weights change."""
        self.require_no_round()
        self._shown = (self._model_as_it_is(), self._weights_version)
        self._copy, self._spare = self._spare, self._copy

    def end_round(self) -> None:
        """Predict with the weights as they are now."""
        self._shown = None

    def require_no_round(self) -> None:
        """Raise RuntimeError between :meth:`begin_round` and :meth:`end_round`."""
        if self._shown is not None:
            raise RuntimeError(
                f"member {self._index} is being trained: finish the training round before its "
                "labels or its state are touched"
            )

    def errors(self, labels: Sequence[Label]) -> ValidationErrors:
        """Errors on a validation set with the weights as they are, in a training round, too.

        Computed once for each version of weights and set.
        """
        of = (self._weights_version, len(labels))
        if self._last is None or self._last[0] != of:
            self._last = (of, self.errors_on(labels))
        return self._last[1]

    def errors_on(self, labels: Sequence[Label]) -> ValidationErrors:
        """Errors on any labels with the weights as they are, in a training round, too."""
        return self._backend.errors(self._model_as_it_is(), self._batches(labels))

    def energy_errors(self, labels: Sequence[Label]) -> Array:
        """Predicted minus labelled energies in eV, (n_labels,), with the weights as they are."""
        return self._backend.energy_errors(self._model_as_it_is(), self._batches(labels))

    def remember(self, n_labels: int, found: ValidationErrors) -> None:
        """Take over errors that another process found with the weights and labels as they are."""
        self._last = ((self._weights_version, n_labels), found)

    def _batches(self, labels: Sequence[Label]) -> list[Sequence[Sample]]:
        samples = [self._backend.label_sample(label) for label in labels]
        size = self._batch_size
        return [
            batch
            for start in range(0, len(samples), size)
            for batch in batches(samples[start : start + size], self._backend)
        ]

    def _model_as_it_is(self) -> InferenceModel:
        return self._copy.at(self._weights_version, self._weights, self._backend)
