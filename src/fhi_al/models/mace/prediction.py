"""Structures to be predicted as MACE's input, many at a time, and what a model makes of them.

MACE's own way (one ``AtomicData`` with 20 tensors for each structure, then collated) was measured
to take 0.9 ms for a structure of 9 atoms; a model takes 7 ms for it in a batch of eight.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import torch
from mace.data.neighborhood import get_neighborhood
from numpy.typing import NDArray

from fhi_al.core.structure import Array
from fhi_al.models.mace import default_dtype
from fhi_al.models.mace.model import ModelFactory

# MACE's neighbour search takes (5 x half extent)^3 x 4 bytes for a molecule: 0.5 GB at 100 A from
# the origin.  Farther than NEAR_A the molecule is moved to the origin; wider than twice FAR_A it
# has flown apart.
NEAR_A = 30.0
FAR_A = 100.0


class Geometry(Protocol):
    """What a prediction needs: a Structure, a Label and ASE's Atoms all have it."""

    @property
    def numbers(self) -> Any: ...
    @property
    def positions(self) -> Any: ...
    @property
    def cell(self) -> Any: ...
    @property
    def pbc(self) -> Any: ...


@dataclass(frozen=True, eq=False)
class Graph:
    """A structure with its neighbours.

    Parameters
    ----------
    elements : (n_atoms,)
        Places of the atoms' elements among those of the model.
    positions : (n_atoms, 3)
        In A.
    cell : (3, 3)
        In A, as MACE wants it: with something in it for a molecule, too.
    edges : (2, n_edges)
    shifts, unit_shifts : (n_edges, 3)
        Of the second atom of an edge, in A and in lattice vectors.
    """

    elements: NDArray[np.int64]
    positions: Array
    cell: Array
    edges: NDArray[np.int64]
    shifts: Array
    unit_shifts: Array

    @property
    def n_edges(self) -> int:
        """Number of directed pairs of neighbours."""
        return int(self.edges.shape[1])


def prediction_graph(geometry: Geometry, factory: ModelFactory) -> Graph | None:
    """The neighbours of a structure; None if it is broken.

    Broken: a position that is not finite, or a molecule that has flown apart, for which the
    neighbour search would need gigabytes.
    """
    positions = np.array(geometry.positions, dtype=np.float64)
    if not np.all(np.isfinite(positions)):
        return None
    x, y, z = (bool(flag) for flag in np.broadcast_to(geometry.pbc, 3))
    if not (x or y or z):
        low, high = positions.min(axis=0), positions.max(axis=0)
        if np.any(high - low > 2 * FAR_A):
            return None
        if np.abs(positions).max() > NEAR_A:
            positions = positions - (low + high) / 2
    # A cell of its own: MACE writes into it.
    given = np.array(geometry.cell, dtype=np.float64)
    edges, shifts, unit_shifts, cell = get_neighborhood(positions, factory.r_max, (x, y, z), given)
    elements = np.searchsorted(np.array(factory.elements), np.asarray(geometry.numbers))
    return Graph(elements, positions, cell, edges, shifts, unit_shifts)


# What tells the structures in a batch apart.
TELL_APART = ("batch", "ptr", "head")


@lru_cache(maxsize=64)
def places_in_batch(
    n_atoms: tuple[int, ...], device: torch.device
) -> tuple[NDArray[np.int64], Mapping[str, torch.Tensor]]:
    """Which atoms belong to which structure.

    Returns
    -------
    starts : (n_structures,)
        Place of the first atom of each.
    dict
        The tensors of TELL_APART.
    """
    ends = np.cumsum([0, *n_atoms])
    values = (
        np.repeat(np.arange(len(n_atoms)), n_atoms),
        ends,
        np.zeros(len(n_atoms), dtype=np.int64),
    )
    tensors = {
        name: torch.as_tensor(value, dtype=torch.int64, device=device)
        for name, value in zip(TELL_APART, values, strict=True)
    }
    return ends[:-1], MappingProxyType(tensors)


def model_input(
    graphs: Sequence[Graph], factory: ModelFactory, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Structures as one batch for a model: the same tensors as MACE's own collation."""
    starts, places = places_in_batch(tuple(len(graph.elements) for graph in graphs), factory.device)
    pairs = [
        graph.edges.astype(np.int64) + start for graph, start in zip(graphs, starts, strict=True)
    ]
    one_hot = np.eye(len(factory.elements))
    numbers = {
        "positions": np.concatenate([graph.positions for graph in graphs]),
        "cell": np.concatenate([graph.cell for graph in graphs]),
        "node_attrs": one_hot[np.concatenate([graph.elements for graph in graphs])],
        "shifts": np.concatenate([graph.shifts for graph in graphs]),
        "unit_shifts": np.concatenate([graph.unit_shifts for graph in graphs]),
    }
    tensors = {
        name: torch.as_tensor(values, dtype=dtype, device=factory.device)
        for name, values in numbers.items()
    }
    edges = torch.as_tensor(np.concatenate(pairs, axis=1), device=factory.device)
    return {**tensors, "edge_index": edges, **places}


def energy_sums(
    elements: Iterable[NDArray[np.integer[Any]]], atomic_energies: Sequence[float]
) -> Array:
    """Sums of E0s in eV, in float64: what the energies of a model's output are relative to.

    Parameters
    ----------
    elements
        For each structure its atoms' places among the elements of the model.
    atomic_energies : (n_elements,)
        In eV.

    Returns
    -------
    (n_structures,)
    """
    energies = np.array(atomic_energies, dtype=np.float64)
    return np.array([np.bincount(one, minlength=len(energies)) @ energies for one in elements])


def energies_and_forces(
    model: torch.nn.Module, inputs: dict[str, torch.Tensor], dtype: torch.dtype
) -> tuple[Array, Array]:
    """What a model predicts for a batch.

    Parameters
    ----------
    model
    inputs
        Of :func:`model_input`.
    dtype
        Of the model and the batch.

    Returns
    -------
    energies : (n_structures,)
        In eV, relative to the sum of the E0s.
    forces : (n_atoms of all, 3)
        In eV/A.
    """
    with default_dtype(dtype):
        # Of its own: MACE replaces entries, and makes the positions ask for gradients.
        own = {**inputs, "positions": inputs["positions"].detach()}
        output: Any = model(own, training=False, compute_force=True)
    return (
        output["energy"].detach().cpu().numpy().astype(np.float64),
        output["forces"].detach().cpu().numpy().astype(np.float64),
    )
