"""Structures with their neighbours as one batch of tensors, and what a loss compares with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fhi_al.core.structure import Array
from fhi_al.models.graphs import Graph, LabelGraph, Tensors

# Of :func:`reference_tensors`: one number for each structure.
BY_STRUCTURE = ("weight", "energy_weight", "forces_weight", "stress_weight", "volume")


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
        ``batch`` (n_atoms of all,): the structure of each atom; ``ptr`` (n_structures + 1,): place
        of the first atom of each structure, and the number of all atoms.
    """
    ends = np.cumsum([0, *n_atoms])
    values = {"batch": np.repeat(np.arange(len(n_atoms)), n_atoms), "ptr": ends}
    tensors = {
        name: torch.as_tensor(value, dtype=torch.int64, device=device)
        for name, value in values.items()
    }
    return ends[:-1], MappingProxyType(tensors)


def graph_tensors(
    graphs: Sequence[Graph], n_elements: int, dtype: torch.dtype, device: torch.device
) -> Tensors:
    """Structures as one batch, but for what tells them apart.

    Returns
    -------
    dict
        ``positions`` (n_atoms of all, 3) and ``cell`` (3 n_structures, 3) in A; ``node_attrs``
        (n_atoms of all, n_elements): 1 for the atom's element, else 0; ``edge_index`` (2, n_pairs):
        first and second atom of each pair; ``unit_shifts`` and ``shifts`` (n_pairs, 3) of the
        second one, in lattice vectors and in A.
    """
    starts = np.cumsum([0, *(graph.n_atoms for graph in graphs[:-1])])
    one_hot = np.eye(n_elements)
    unit_shifts = [graph.neighbours.unit_shifts.astype(np.float64) for graph in graphs]
    cells = [graph.neighbours.cell for graph in graphs]
    numbers = {
        "positions": np.concatenate([graph.positions for graph in graphs]),
        "cell": np.concatenate(cells),
        "node_attrs": one_hot[np.concatenate([graph.elements for graph in graphs])],
        "shifts": np.concatenate([np.dot(s, c) for s, c in zip(unit_shifts, cells, strict=True)]),
        "unit_shifts": np.concatenate(unit_shifts),
    }
    tensors = {
        name: torch.as_tensor(values, dtype=dtype, device=device)
        for name, values in numbers.items()
    }
    pairs = [
        graph.neighbours.pairs.astype(np.int64) + start
        for graph, start in zip(graphs, starts, strict=True)
    ]
    # Row by row in memory: pairs chosen from a list are joined column by column, which costs MACE 6
    # to 9 % of its time and changes no number (measured on a CPU, 576 pairs).
    joined = np.ascontiguousarray(np.concatenate(pairs, axis=1))
    tensors["edge_index"] = torch.as_tensor(joined, device=device)
    return tensors


def reference_tensors(
    graphs: Sequence[LabelGraph], dtype: torch.dtype, device: torch.device
) -> Tensors:
    """What a loss compares with, but for the energies, which depend on the E0s.

    Returns
    -------
    dict
        ``forces`` (n_atoms of all, 3) in eV/A, ``stress`` (n_structures, 3, 3) in eV/A^3; by
        structure ``weight``, ``energy_weight``, ``forces_weight``, ``stress_weight`` (0 for a label
        without a stress), and ``volume`` in A^3 (0 for a molecule): ``BY_STRUCTURE``.
    """
    labels = [graph.label for graph in graphs]
    no_stress = np.zeros((3, 3))
    values: dict[str, Any] = {
        "forces": np.concatenate([label.forces for label in labels]),
        "stress": np.array([no_stress if one.stress is None else one.stress for one in labels]),
        "weight": [graph.weight for graph in graphs],
        "energy_weight": np.ones(len(graphs)),
        "forces_weight": np.ones(len(graphs)),
        "stress_weight": [float(label.stress is not None) for label in labels],
        "volume": [abs(np.linalg.det(label.cell)) for label in labels],
    }
    return {
        name: torch.as_tensor(value, dtype=dtype, device=device) for name, value in values.items()
    }


def energy_sums(
    elements: Iterable[NDArray[np.integer[Any]]], atomic_energies: Sequence[float]
) -> Array:
    """Sums of E0s in eV, in float64: what energies of models and labels are relative to.

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
    energies = tuple(atomic_energies)
    return np.array([_energy_sum(one.tobytes(), one.dtype.char, energies) for one in elements])


@lru_cache(maxsize=1024)
def _energy_sum(elements: bytes, dtype: str, atomic_energies: tuple[float, ...]) -> float:
    """Of one structure; most structures of a run are alike in their atoms."""
    energies = np.array(atomic_energies, dtype=np.float64)
    counts = np.bincount(np.frombuffer(elements, dtype=dtype), minlength=len(energies))
    return float(counts @ energies)


def relative_energies(graphs: Sequence[LabelGraph], atomic_energies: Sequence[float]) -> Array:
    """Labels' energies relative to the sum of the E0s, (n_structures,) in eV."""
    energies = np.array([graph.label.energy for graph in graphs])
    return energies - energy_sums([graph.elements for graph in graphs], atomic_energies)
