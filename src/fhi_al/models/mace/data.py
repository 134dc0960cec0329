"""Labels as MACE's batches.  Owns the neighbours of every label, found once and kept small.

MACE's own graphs (``AtomicData``) take 64 bytes for each pair of neighbours in float64, of which
all but 5 (7 from 257 atoms on) can be put back from the structure when a batch is made.  While
there are few pairs, their tensors are kept as well, and a batch is made in two thirds of the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from mace.tools import torch_geometric
from numpy.typing import NDArray

from fhi_al.core.label import Label
from fhi_al.core.structure import Array
from fhi_al.models.mace.model import ModelFactory
from fhi_al.models.mace.prediction import (
    TELL_APART,
    Graph,
    energy_sums,
    model_input,
    places_in_batch,
    prediction_graph,
)

# Of tensors that are kept ready for batches.
MOST_READY_BYTES = 128 * 2**20


@dataclass(frozen=True, eq=False, slots=True)
class StoredGraph:
    """A label and its neighbours, in few bytes.

    Parameters
    ----------
    label : Label
    weight : float
        In the loss.
    positions : (n_atoms, 3)
        In A; the label's own array, unless MACE needs them nearer to the origin.
    cell : (3, 3)
        In A, as MACE wants it.
    elements : (n_atoms,)
        Places of the atoms' elements among those of the model.
    edges : (2, n_edges)
    unit_shifts : (n_edges, 3)
        All three in the smallest integers that hold them.
    ready : dict or None
        Its tensors in a batch, but those that tell the structures apart, if they are kept.
    """

    label: Label
    weight: float
    positions: Array
    cell: Array
    elements: NDArray[Any]
    edges: NDArray[Any]
    unit_shifts: NDArray[Any]
    ready: dict[str, torch.Tensor] | None = None

    @property
    def n_edges(self) -> int:
        """Number of directed pairs of neighbours."""
        return int(self.edges.shape[1])

    @property
    def n_bytes(self) -> int:
        """What it takes beside its label and the tensors that are kept."""
        own = (self.cell, self.elements, self.edges, self.unit_shifts)
        moved = () if self.positions is self.label.positions else (self.positions,)
        return sum(array.nbytes for array in (*own, *moved))

    def whole(self) -> Graph:
        """The graph as a model takes it."""
        unit_shifts = self.unit_shifts.astype(np.float64)
        return Graph(
            elements=self.elements,
            positions=self.positions,
            cell=self.cell,
            edges=self.edges,
            # As MACE computes them, so that no bit is another.
            shifts=np.dot(unit_shifts, self.cell),
            unit_shifts=unit_shifts,
        )


class GraphStore:
    """The graphs of labels, each built once and shared by all members.

    Parameters
    ----------
    factory : ModelFactory
    most_ready_bytes : int
        Of the tensors that are kept ready for batches; those of later labels are made anew.
    """

    def __init__(self, factory: ModelFactory, most_ready_bytes: int = MOST_READY_BYTES) -> None:
        self._factory = factory
        self._ready_bytes_left = most_ready_bytes
        self._weights: Mapping[str, float] = factory.settings.training.config_type_weights or {}
        self._graphs: dict[str, StoredGraph] = {}

    def graph(self, label: Label) -> StoredGraph:
        """The graph of a label.

        Raises
        ------
        ValueError
            If the label is not finite, or its molecule has flown apart.
        """
        if label.key not in self._graphs:
            self._graphs[label.key] = self._build(label)
        return self._graphs[label.key]

    def groups(self, labels: Sequence[Label], size: int) -> Iterator[list[StoredGraph]]:
        """The graphs of `size` labels at a time in the order given; the last may be fewer."""
        for start in range(0, len(labels), size):
            yield [self.graph(label) for label in labels[start : start + size]]

    def _build(self, label: Label) -> StoredGraph:
        graph = prediction_graph(label, self._factory)
        if graph is None or not (np.isfinite(label.energy) and np.isfinite(label.forces).all()):
            raise ValueError(
                f"label {label.key} cannot be trained on: expected finite positions, energy and "
                "forces, and a molecule of less than 200 A."
            )
        same = np.array_equal(graph.positions, label.positions)
        stored = StoredGraph(
            label=label,
            weight=self.weight(label),
            positions=label.positions if same else graph.positions,
            cell=graph.cell,
            elements=_small(graph.elements),
            edges=_small(graph.edges),
            unit_shifts=_small(graph.unit_shifts),
        )
        if self._ready_bytes_left <= 0:
            return stored
        inputs = model_input([graph], self._factory, self._factory.dtype)
        ready = {name: tensor for name, tensor in inputs.items() if name not in TELL_APART}
        ready |= _forces_and_weights([stored], self._factory)
        self._ready_bytes_left -= sum(tensor.nbytes for tensor in ready.values())
        return replace(stored, ready=ready)

    def weight(self, label: Label) -> float:
        """Weight of a label in the loss, by the phase it comes from."""
        return float(self._weights.get(config_type(label), self._weights.get("Default", 1.0)))


def config_type(label: Label) -> str:
    """The name under which ``config_type_weights`` knows a label."""
    return "initial" if label.origin.phase == "initial" else "active_learning"


def _small(integers: NDArray[Any]) -> NDArray[Any]:
    """The same integers in the smallest type that holds them."""
    ends = (integers.min(), integers.max()) if integers.size else (0, 0)
    for dtype in (np.uint8, np.int8, np.uint16, np.int16, np.int32):
        if np.iinfo(dtype).min <= ends[0] and ends[1] <= np.iinfo(dtype).max:
            return np.ascontiguousarray(integers, dtype=dtype)
    return integers


def training_batch(
    graphs: Sequence[StoredGraph], factory: ModelFactory, atomic_energies: Sequence[float]
) -> Any:
    """A MACE batch: what a model takes and what its loss compares with.

    The tensors that MACE's own collation gives, in a tenth of its time; energies relative to the
    sum of the E0s.

    Parameters
    ----------
    graphs, factory
    atomic_energies : (n_elements,)
        E0 in eV.
    """
    energies = _relative_energies(graphs, factory, atomic_energies)
    kept = [graph.ready for graph in graphs if graph.ready is not None]
    if len(kept) < len(graphs):
        inputs = model_input([graph.whole() for graph in graphs], factory, factory.dtype)
        rest = _forces_and_weights(graphs, factory)
        return torch_geometric.Batch(**inputs, **rest, energy=energies)
    starts, places = _places(graphs, factory)
    tensors = {
        name: torch.cat([one[name] for one in kept]) for name in kept[0] if name != "edge_index"
    }
    edges = [one["edge_index"] + int(start) for one, start in zip(kept, starts, strict=True)]
    tensors["edge_index"] = torch.cat(edges, dim=1)
    return torch_geometric.Batch(**tensors, **places, energy=energies)


def reference_batch(
    graphs: Sequence[StoredGraph], factory: ModelFactory, atomic_energies: Sequence[float]
) -> Any:
    """What a loss or MACE's metrics compare with, and nothing for a model."""
    _, places = _places(graphs, factory)
    energies = _relative_energies(graphs, factory, atomic_energies)
    rest = _forces_and_weights(graphs, factory)
    return torch_geometric.Batch(ptr=places["ptr"], **rest, energy=energies)


def _places(
    graphs: Sequence[StoredGraph], factory: ModelFactory
) -> tuple[NDArray[np.int64], Mapping[str, torch.Tensor]]:
    return places_in_batch(tuple(len(graph.elements) for graph in graphs), factory.device)


def _relative_energies(
    graphs: Sequence[StoredGraph], factory: ModelFactory, atomic_energies: Sequence[float]
) -> torch.Tensor:
    """(n_structures,), relative to the sum of the E0s before they are cast."""
    whole = np.array([graph.label.energy for graph in graphs])
    sums = energy_sums([graph.elements for graph in graphs], atomic_energies)
    return torch.as_tensor(whole - sums, dtype=factory.dtype, device=factory.device)


def _forces_and_weights(
    graphs: Sequence[StoredGraph], factory: ModelFactory
) -> dict[str, torch.Tensor]:
    labels = [graph.label for graph in graphs]
    has_stress = [float(label.stress is not None) for label in labels]
    no_stress = np.zeros((3, 3))
    stress = [no_stress if label.stress is None else label.stress for label in labels]
    values: dict[str, Any] = {
        "forces": np.concatenate([label.forces for label in labels]),
        "stress": np.array(stress),
        "weight": [graph.weight for graph in graphs],
        "energy_weight": np.ones(len(graphs)),
        "forces_weight": np.ones(len(graphs)),
        "stress_weight": has_stress,
    }
    return {
        name: torch.as_tensor(value, dtype=factory.dtype, device=factory.device)
        for name, value in values.items()
    }
