"""Descriptors of structures, in batches of bounded size, with a model's weights as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from fhi_al.core.label import Label
from fhi_al.core.structure import Array
from fhi_al.models.mace.data import GraphStore
from fhi_al.models.mace.descriptors import invariant_features
from fhi_al.models.mace.model import ModelFactory
from fhi_al.models.mace.prediction import Geometry, Graph, model_input, prediction_graph
from fhi_al.models.out_of_memory import in_halves, parts
from fhi_al.models.predictor import MOST_EDGES

# Graphs held at a time.
_MOST_STRUCTURES = 200


class Descriptors:
    """Describes atoms by one model of the ensemble.

    One model only: every member has a feature space of its own, so that a mean over members would
    mean nothing, and their features side by side would cost a forward pass each and tell little
    more of which structures are alike.

    Parameters
    ----------
    factory : ModelFactory
    model : callable
        Returns the model, of the factory's precision.
    store : GraphStore
        Of the labels: their neighbours are not searched again.
    """

    def __init__(
        self, factory: ModelFactory, model: Callable[[], torch.nn.Module], store: GraphStore
    ) -> None:
        self._factory = factory
        self._model = model
        self._store = store

    def of(self, geometries: Sequence[Geometry]) -> list[Array]:
        """Invariant features of each structure's atoms: (n_atoms, n_features), no unit.

        The last bits depend on which structures are described together.

        Raises
        ------
        ValueError
            If a structure is broken: a position is not finite, or a molecule has flown apart.
        """
        found: list[Array] = []
        for first in range(0, len(geometries), _MOST_STRUCTURES):
            graphs = [self._graph(one) for one in geometries[first : first + _MOST_STRUCTURES]]
            for part in parts([graph.n_edges for graph in graphs], MOST_EDGES):
                found += in_halves(graphs[part.start : part.stop], self._described)
        return found

    def _graph(self, geometry: Geometry) -> Graph:
        if isinstance(geometry, Label):
            return self._store.graph(geometry).whole()
        graph = prediction_graph(geometry, self._factory)
        if graph is None:
            raise ValueError("a structure that is broken has no descriptors")
        return graph

    def _described(self, graphs: Sequence[Graph]) -> list[Array]:
        inputs = model_input(graphs, self._factory, self._factory.dtype)
        features = invariant_features(self._model(), inputs, self._factory.dtype)
        ends = np.cumsum([len(graph.elements) for graph in graphs])
        return np.split(features, ends[:-1])
