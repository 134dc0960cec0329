"""Structures with their neighbours; labels' graphs kept small.

A graph of tensors takes 64 bytes for each pair of neighbours in float64, of which all but 5 (7 from
257 atoms on) can be put back from the structure when a batch is made.  While there are few pairs,
their tensors are kept as well, and a batch is made in two thirds of the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fhi_al.core.label import Label
from fhi_al.core.structure import Array
from fhi_al.models.interface import Geometry

# Neighbour searches with cells take memory for the whole box: MACE's (5 x half extent)^3 x 4 bytes,
# 0.5 GB at 100 A from the origin.  Farther than NEAR_A a molecule is moved to the origin; wider
# than twice FAR_A it has flown apart.
NEAR_A = 30.0
FAR_A = 100.0

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Directed pairs of atoms within the cutoff.

    Parameters
    ----------
    pairs : (2, n_pairs)
        Places of the first and the second atom.
    unit_shifts : (n_pairs, 3)
        Of the second atom, in lattice vectors.
    cell : (3, 3)
        In A; what the shifts count in, with something in it for a molecule, too.
    """

    pairs: NDArray[Any]
    unit_shifts: NDArray[Any]
    cell: Array


# (positions in A, periodic directions, cell in A, which may be written into) -> neighbours
NeighbourSearch = Callable[[Array, tuple[bool, bool, bool], Array], Neighbours]


@dataclass(frozen=True, eq=False)
class Graph:
    """A structure with its neighbours.

    Parameters
    ----------
    elements : (n_atoms,)
        Places of the atoms' elements among those of the model.
    positions : (n_atoms, 3)
        In A.
    neighbours : Neighbours
    is_crystal : bool
        Periodic in three directions: there is a stress.
    """

    elements: NDArray[np.int64]
    positions: Array
    neighbours: Neighbours
    is_crystal: bool

    @property
    def n_atoms(self) -> int:
        return len(self.elements)

    @property
    def n_pairs(self) -> int:
        return int(self.neighbours.pairs.shape[1])

    def whole(self) -> Graph:
        """Itself: see :meth:`LabelGraph.whole`."""
        return self


def graph_of(geometry: Geometry, elements: Sequence[int], search: NeighbourSearch) -> Graph | None:
    """A structure with its neighbours; None if it is broken.

    Broken: a position that is not finite, or a molecule that has flown apart, for which the
    neighbour search would need gigabytes.
    """
    positions = np.array(geometry.positions, dtype=np.float64)
    # Plain numbers: of few atoms, each of NumPy's calls takes longer than what it does.
    low, high = positions.min(axis=0), positions.max(axis=0)
    ends = [*low.tolist(), *high.tolist()]
    if not all(map(math.isfinite, ends)):
        return None
    pbc = geometry.pbc
    x, y, z = (pbc,) * 3 if isinstance(pbc, bool) else map(bool, np.broadcast_to(pbc, 3))
    if not (x or y or z):
        if any(b - a > 2 * FAR_A for a, b in zip(ends[:3], ends[3:], strict=True)):
            return None
        if max(map(abs, ends)) > NEAR_A:
            positions = positions - (low + high) / 2
    # A cell of its own: the search may write into it.
    found = search(positions, (x, y, z), np.array(geometry.cell, dtype=np.float64))
    places = np.searchsorted(np.array(elements), np.asarray(geometry.numbers))
    return Graph(places, positions, found, x and y and z)


@dataclass(frozen=True, eq=False, slots=True)
class LabelGraph:
    """A label and its neighbours, in few bytes.

    Parameters
    ----------
    label : Label
    weight : float
        In the loss.
    graph : Graph
        With the smallest integers that hold its own; the positions are the label's own array,
        unless they had to be moved nearer to the origin.
    ready : dict or None
        Its tensors in a batch, but those that tell the structures apart, if they are kept.
    """

    label: Label
    weight: float
    graph: Graph
    ready: Tensors | None = None

    @property
    def n_atoms(self) -> int:
        return self.graph.n_atoms

    @property
    def n_pairs(self) -> int:
        return self.graph.n_pairs

    @property
    def elements(self) -> NDArray[Any]:
        """(n_atoms,) Places of the atoms' elements among those of the model."""
        return self.graph.elements

    @property
    def n_bytes(self) -> int:
        """What it takes beside its label and the tensors that are kept."""
        graph, near = self.graph, self.graph.neighbours
        own = (near.cell, graph.elements, near.pairs, near.unit_shifts)
        moved = () if graph.positions is self.label.positions else (graph.positions,)
        return sum(array.nbytes for array in (*own, *moved))

    def whole(self) -> Graph:
        """The graph as batches take it."""
        return self.graph


class LabelGraphs:
    """The graphs of labels, each built once and shared by all members.

    Parameters
    ----------
    elements : sequence of int
        Atomic numbers the models know, sorted.
    search : callable
        Finds neighbours.
    weight : callable
        Label -> its weight in the loss.
    tensors : callable
        Graph of a label -> the tensors of a batch of this one, see
        :func:`fhi_al.models.batches.graph_tensors` and
        :func:`fhi_al.models.batches.reference_tensors`.
    most_ready_bytes : int
        Of the tensors that are kept ready for batches; those of later labels are made anew.
    """

    def __init__(
        self,
        elements: Sequence[int],
        search: NeighbourSearch,
        weight: Callable[[Label], float],
        tensors: Callable[[LabelGraph], Tensors],
        most_ready_bytes: int,
    ) -> None:
        self._elements = elements
        self._search = search
        self._weight = weight
        self._tensors = tensors
        self._ready_bytes_left = most_ready_bytes
        self._graphs: dict[str, LabelGraph] = {}

    def get(self, label: Label) -> LabelGraph:
        """The graph of a label.

        Raises
        ------
        ValueError
            If the label is not finite, or its molecule has flown apart.
        """
        if label.key not in self._graphs:
            self._graphs[label.key] = self._build(label)
        return self._graphs[label.key]

    def known(self, geometry: Geometry) -> LabelGraph | None:
        """The graph of this very label, if it has one already."""
        found = self._graphs.get(geometry.key) if isinstance(geometry, Label) else None
        return found if found is not None and found.label is geometry else None

    def _build(self, label: Label) -> LabelGraph:
        graph = graph_of(label, self._elements, self._search)
        if graph is None or not (np.isfinite(label.energy) and np.isfinite(label.forces).all()):
            raise ValueError(
                f"label {label.key} cannot be trained on: expected finite positions, energy and "
                "forces, and a molecule of less than 200 A."
            )
        near = graph.neighbours
        same = np.array_equal(graph.positions, label.positions)
        stored = LabelGraph(
            label,
            self._weight(label),
            Graph(
                elements=_small(graph.elements),
                positions=label.positions if same else graph.positions,
                neighbours=Neighbours(_small(near.pairs), _small(near.unit_shifts), near.cell),
                is_crystal=graph.is_crystal,
            ),
        )
        if self._ready_bytes_left <= 0:
            return stored
        ready = self._tensors(stored)
        self._ready_bytes_left -= sum(tensor.nbytes for tensor in ready.values())
        return replace(stored, ready=ready)


def _small(integers: NDArray[Any]) -> NDArray[Any]:
    """The same integers in the smallest type that holds them."""
    ends = (integers.min(), integers.max()) if integers.size else (0, 0)
    for dtype in (np.uint8, np.int8, np.uint16, np.int16, np.int32):
        if np.iinfo(dtype).min <= ends[0] and ends[1] <= np.iinfo(dtype).max:
            return np.ascontiguousarray(integers, dtype=dtype)
    return integers
