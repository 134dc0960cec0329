"""What members predict for many structures at once, in batches of bounded size.

Owns the splitting; where the models come from, and on which rank they are, is for its users.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from fhi_al.core.structure import Array
from fhi_al.models.mace.model import ModelFactory
from fhi_al.models.mace.prediction import (
    Geometry,
    Graph,
    energies_and_forces,
    energy_sums,
    model_input,
    prediction_graph,
)
from fhi_al.models.mace.runtime_model import atomic_energies
from fhi_al.models.out_of_memory import in_halves, parts

# Directed pairs of neighbours in one batch: some 100 atoms of a dense crystal have 6000.  More gain
# nothing, measured on a CPU; what is too much for a small GPU is halved when it says so.
MOST_EDGES = 30_000


@dataclass(frozen=True, eq=False)
class Prediction:
    """What some members say of one structure.

    Parameters
    ----------
    energies : (n_members,)
        In eV: relative to the sum of the E0s in the models' precision, the rest in float64.
    forces : (n_members, n_atoms, 3)
        In eV/A.  All NaN if the structure is broken: a position is not finite, or a molecule has
        flown apart by more than 200 A.
    """

    energies: Array
    forces: Array


class Predictor(Protocol):
    """Predicts with the weights that validation uses, here or on several ranks."""

    @property
    def as_trained(self) -> Predictor:
        """The same models in the precision they are trained in: for errors that are reported."""
        ...

    def predict(
        self, geometries: Sequence[Geometry], members: Sequence[int] | None = None
    ) -> list[Prediction]:
        """What members (None: all of them) say of each structure.

        Structures may differ in their atoms.  The last bits of the numbers depend on which
        structures are predicted together.
        """
        ...


class LocalPredictor:
    """Predicts in this process.

    Parameters
    ----------
    factory : ModelFactory
    model : callable
        Member -> its model, of precision `dtype`.
    dtype : torch.dtype
    n_members : int
    as_trained : Predictor, optional
        The same models in the precision they are trained in, if that is not `dtype`.
    """

    def __init__(
        self,
        factory: ModelFactory,
        model: Callable[[int], torch.nn.Module],
        dtype: torch.dtype,
        n_members: int,
        as_trained: Predictor | None = None,
    ) -> None:
        self._factory = factory
        self._model = model
        self._dtype = dtype
        self._n_members = n_members
        self._as_trained = as_trained

    @property
    def as_trained(self) -> Predictor:
        """See :attr:`Predictor.as_trained`."""
        return self._as_trained or self

    def predict(
        self, geometries: Sequence[Geometry], members: Sequence[int] | None = None
    ) -> list[Prediction]:
        """See :meth:`Predictor.predict`."""
        chosen = range(self._n_members) if members is None else members
        graphs = [prediction_graph(geometry, self._factory) for geometry in geometries]
        whole = [graph for graph in graphs if graph is not None]
        found: list[Prediction] = []
        for part in parts([graph.n_edges for graph in whole], MOST_EDGES):
            found += in_halves(whole[part.start : part.stop], lambda some: self._all(some, chosen))
        arrived = iter(found)
        return [
            broken(len(chosen), len(geometry.numbers)) if graph is None else next(arrived)
            for geometry, graph in zip(geometries, graphs, strict=True)
        ]

    def _all(self, graphs: Sequence[Graph], members: Sequence[int]) -> list[Prediction]:
        inputs = model_input(graphs, self._factory, self._dtype)
        elements = [graph.elements for graph in graphs]
        energies, forces = [], []
        for model in map(self._model, members):
            relative, of_all = energies_and_forces(model, inputs, self._dtype)
            energies.append(relative + energy_sums(elements, atomic_energies(model)))
            forces.append(of_all)
        ends = np.cumsum([len(graph.elements) for graph in graphs])
        return [
            Prediction(np.array(energies)[:, place], of_one)
            for place, of_one in enumerate(np.split(np.array(forces), ends[:-1], axis=1))
        ]


def broken(n_members: int, n_atoms: int) -> Prediction:
    """The prediction for a broken structure."""
    return Prediction(np.full(n_members, np.nan), np.full((n_members, n_atoms, 3), np.nan))
