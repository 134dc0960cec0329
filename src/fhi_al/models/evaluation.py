"""What a member's weights give: the copies that predict, and the errors on its validation set.

Counts the changes of the weights, and makes none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from fhi_al.core.label import Label
from fhi_al.models.mace.data import GraphStore, StoredGraph
from fhi_al.models.mace.model import (
    ModelFactory,
    copy_of,
    read_normalisation,
    write_normalisation,
)
from fhi_al.models.mace.training import ForceErrors, errors
from fhi_al.models.optimisation import Optimisation
from fhi_al.models.out_of_memory import parts
from fhi_al.models.predictor import MOST_EDGES


class InferenceCopy:
    """A copy of a model with its averaged weights, brought up to date when it is asked for."""

    def __init__(self) -> None:
        self._model: torch.nn.Module | None = None
        self._copied: torch.nn.Module | None = None
        # Of the copy, each with that of the model in training.
        self._parameters: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._buffers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._version = -1

    def at(
        self, version: int, model: torch.nn.Module, optimisation: Optimisation
    ) -> torch.nn.Module:
        """The copy, with the weights of `model` (the moving average where there is one).

        Parameters
        ----------
        version
            Of the weights: they are taken over only if it is another than the last time.
        model, optimisation
            What is being trained.
        """
        if self._model is None:
            self._model = copy_of(model)
        if self._copied is not model:
            # Not found anew each time: that takes longer than copying them.
            self._copied, twin = model, self._model
            self._parameters = list(zip(twin.parameters(), model.parameters(), strict=True))
            self._buffers = list(zip(twin.buffers(), model.buffers(), strict=True))
        if self._version != version:
            average = optimisation.average
            with torch.no_grad():
                for own, trained in self._buffers + (self._parameters if average is None else []):
                    own.copy_(trained)
            write_normalisation(self._model, read_normalisation(model))
            if average is not None:
                average.copy_to([own for own, _ in self._parameters])
            self._version = version
        return self._model


class Evaluation:
    """What one member predicts with, and its validation errors.

    Parameters
    ----------
    index : int
        Of the member.
    factory : ModelFactory
    store : GraphStore
    parts : callable
        () -> the model in training and its optimisation.
    """

    def __init__(
        self,
        index: int,
        factory: ModelFactory,
        store: GraphStore,
        parts: Callable[[], tuple[torch.nn.Module, Optimisation]],
    ) -> None:
        self._index = index
        self._factory = factory
        self._store = store
        self._parts = parts
        self._weights_version = 0
        self._copy, self._spare = InferenceCopy(), InferenceCopy()
        # In a visit: what is predicted with until it ends, and the version of that.
        self._shown: tuple[torch.nn.Module, int] | None = None
        self._last: tuple[tuple[int, int], ForceErrors] | None = None

    @property
    def model(self) -> torch.nn.Module:
        """What to predict with, see :attr:`fhi_al.models.member.Member.inference_model`."""
        return self._model_as_it_is() if self._shown is None else self._shown[0]

    @property
    def version(self) -> int:
        """Goes up whenever what is predicted changes."""
        return self._weights_version if self._shown is None else self._shown[1]

    def weights_changed(self) -> None:
        """The weights or statistics are others than before."""
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
                f"member {self._index} is being trained: finish the visit before its labels or "
                "its state are touched"
            )

    def errors(self, labels: Sequence[Label]) -> ForceErrors:
        """Errors on a validation set with the weights as they are, in a visit too.

        Computed once for each version of weights and set.
        """
        of = (self._weights_version, len(labels))
        if self._last is None or self._last[0] != of:
            self._last = (of, self.errors_on(labels))
        return self._last[1]

    def errors_on(self, labels: Sequence[Label]) -> ForceErrors:
        """Errors on any labels with the weights as they are, in a round too."""
        loss = self._parts()[1].loss
        return errors(self._factory, self._model_as_it_is(), loss, self._groups(labels))

    def remember(self, n_labels: int, found: ForceErrors) -> None:
        """Take over errors that another process found with the weights and labels as they are."""
        self._last = ((self._weights_version, n_labels), found)

    def _groups(self, labels: Sequence[Label]) -> list[list[StoredGraph]]:
        """The labels in groups that are not too large for one call of the model."""
        size = int(self._factory.settings.training.valid_batch_size)
        return [
            group[part.start : part.stop]
            for group in self._store.groups(labels, size)
            for part in parts([graph.n_edges for graph in group], MOST_EDGES)
        ]

    def _model_as_it_is(self) -> torch.nn.Module:
        return self._copy.at(self._weights_version, *self._parts())
