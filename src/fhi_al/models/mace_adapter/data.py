"""From labels to MACE's graphs, and the statistics of a training set."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from mace.data import AtomicData, Configuration
from mace.data.utils import compute_average_E0s
from mace.modules import compute_avg_num_neighbors, scaling_classes
from mace.tools import torch_geometric

from fhi_al.core.label import Label
from fhi_al.models.mace_adapter import default_dtype
from fhi_al.models.mace_adapter.model import HEAD, ModelFactory, Statistics

# A scale below this (eV/A or eV) is no scale: one structure at rest has zero forces.
SMALLEST_SCALE = 1e-8


class GraphStore:
    """MACE's graphs of labels, each built once and shared by all members."""

    def __init__(self, factory: ModelFactory) -> None:
        self._factory = factory
        self._weights: Mapping[str, float] = factory.settings.training.config_type_weights or {}
        self._graphs: dict[str, AtomicData] = {}

    def graph(self, label: Label) -> AtomicData:
        """The graph of a label with its energy, forces and, where there is one, stress."""
        if label.key not in self._graphs:
            self._graphs[label.key] = self._build(label)
        return self._graphs[label.key]

    def batches(self, labels: Sequence[Label], size: int) -> Iterator[Any]:
        """MACE batches of `size` labels in the order given; the last one may be smaller."""
        for start in range(0, len(labels), size):
            graphs = [self.graph(label) for label in labels[start : start + size]]
            yield _batch(graphs)

    def _build(self, label: Label) -> AtomicData:
        properties: dict[str, Any] = {"energy": label.energy, "forces": label.forces}
        if label.stress is not None:
            properties["stress"] = label.stress
        given = {name: float(name in properties) for name in ("energy", "forces", "stress")}
        configuration = _configuration(label, properties, {**given, "virials": 0.0})
        configuration.config_type = config_type(label)
        configuration.weight = self.weight(label)
        graph = _graph(configuration, self._factory)
        _assert_seen(graph, label)
        return graph

    def weight(self, label: Label) -> float:
        """Weight of a label in the loss, by the phase it comes from."""
        return float(self._weights.get(config_type(label), self._weights.get("Default", 1.0)))


def config_type(label: Label) -> str:
    """The name under which ``config_type_weights`` knows a label."""
    return "initial" if label.origin.phase == "initial" else "active_learning"


def _configuration(
    label: Label, properties: dict[str, Any], weights: dict[str, float]
) -> Configuration:
    # Properties are handed over by name, not through the keys of an extended xyz file: with ASE's
    # own keys MACE silently trains on nothing.
    return Configuration(
        atomic_numbers=np.asarray(label.numbers),
        positions=np.asarray(label.positions, dtype=np.float64),
        properties=properties,
        property_weights=weights,
        cell=np.array(label.cell, dtype=np.float64),
        pbc=tuple(bool(flag) for flag in np.broadcast_to(label.pbc, 3)),
        head=HEAD,
    )


def _graph(configuration: Configuration, factory: ModelFactory) -> AtomicData:
    with default_dtype(factory.dtype):
        return AtomicData.from_config(
            configuration, z_table=factory.table, cutoff=factory.r_max, heads=[HEAD]
        )


def _batch(graphs: list[AtomicData]) -> Any:
    collate: Any = torch_geometric.Batch.from_data_list
    return collate(graphs)


def _assert_seen(graph: AtomicData, label: Label) -> None:
    seen = (
        float(graph.energy_weight) == 1.0
        and float(graph.forces_weight) == 1.0
        and np.allclose(float(graph.energy), label.energy, rtol=1e-6)  # float32
        and np.allclose(graph.forces.numpy(), label.forces, rtol=1e-5, atol=1e-6)
    )
    if not seen:
        raise RuntimeError(
            f"label {label.key}: MACE did not take over its energy and forces; "
            "this version of mace-torch reads training data in a way FHI_AL does not know."
        )


def training_statistics(
    labels: Sequence[Label],
    store: GraphStore,
    factory: ModelFactory,
    atomic_energies: Mapping[int, float] | None,
) -> Statistics:
    """E0s, scale, shift and average number of neighbours of a training set, by MACE's functions.

    Parameters
    ----------
    labels
        At least one.
    atomic_energies
        The user's E0s in eV by atomic number, used as they are; None for least-squares averages.

    Raises
    ------
    ValueError
        If there is no label, or an element has no E0 among the user's.
    """
    if not labels:
        raise ValueError("no training labels: statistics need at least one")
    energies = (
        _average_energies(labels, factory)
        if atomic_energies is None
        else _user_energies(atomic_energies, factory.elements)
    )
    arguments = factory.arguments
    batches: Any = list(store.batches(labels, 16))
    with default_dtype(factory.dtype):
        scale, shift = 1.0, 0.0
        if arguments.scaling != "no_scaling":
            mean, spread = scaling_classes[arguments.scaling](batches, np.array([energies]))
            scale = _usable(float(np.squeeze(spread)), 1.0, SMALLEST_SCALE)
            # MACE's own rule: the model named MACE has no shift.
            shift = _usable(float(np.squeeze(mean)), 0.0) if arguments.model != "MACE" else 0.0
        neighbors = 1.0
        if factory.settings.architecture.compute_avg_num_neighbors:
            bonded: Any = [batch for batch in batches if batch.edge_index.shape[1] > 0]
            if bonded:
                neighbors = _usable(float(compute_avg_num_neighbors(bonded)), 1.0)
    return Statistics(tuple(energies), scale, shift, neighbors)


def _average_energies(labels: Sequence[Label], factory: ModelFactory) -> list[float]:
    configurations = [_configuration(label, {"energy": label.energy}, {}) for label in labels]
    averages = compute_average_E0s(configurations, factory.table)
    return [float(averages[number]) for number in factory.elements]


def _user_energies(energies: Mapping[int, float], elements: Sequence[int]) -> list[float]:
    missing = [number for number in elements if number not in energies]
    if missing:
        raise ValueError(
            "mace_settings.yaml: ARCHITECTURE.atomic_energies: no energy for atomic number "
            f"{', '.join(map(str, missing))}. Expected every element of geometry.in, in eV; "
            "FHI_AL-atomic-energies computes them."
        )
    return [float(energies[number]) for number in elements]


def _usable(value: float, otherwise: float, smallest: float | None = None) -> float:
    if not math.isfinite(value) or (smallest is not None and value < smallest):
        return otherwise
    return value
