"""E0s, scale, shift and average number of neighbours of a training set, by MACE's functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mace.data import Configuration
from mace.data.utils import compute_average_E0s
from mace.modules import compute_avg_num_neighbors, scaling_classes

from fhi_al.core.label import Label
from fhi_al.models.mace import default_dtype
from fhi_al.models.mace.data import GraphStore, training_batch
from fhi_al.models.mace.model import HEAD, ModelFactory, NormalisationConstants

# A scale below this (eV/A or eV) is no scale: one structure at rest has zero forces.
SMALLEST_SCALE = 1e-8
# Structures that are looked at together.
BATCH = 16


def training_normalisation(
    labels: Sequence[Label],
    store: GraphStore,
    factory: ModelFactory,
    atomic_energies: Mapping[int, float] | None,
) -> NormalisationConstants:
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
    with default_dtype(factory.dtype):
        scale, shift = 1.0, 0.0
        if arguments.scaling != "no_scaling":
            mean, spread = scaling_classes[arguments.scaling](
                _batches(labels, store, factory, energies), np.zeros((1, len(energies)))
            )
            scale = _usable(float(np.squeeze(spread)), 1.0, SMALLEST_SCALE)
            # MACE's own rule: the model named MACE has no shift.
            shift = _usable(float(np.squeeze(mean)), 0.0) if arguments.model != "MACE" else 0.0
        neighbors = 1.0
        if factory.settings.architecture.compute_avg_num_neighbors:
            bonded = [label for label in labels if store.graph(label).n_edges]
            if bonded:
                batches = _batches(bonded, store, factory, energies)
                neighbors = _usable(float(compute_avg_num_neighbors(batches)), 1.0)
    return NormalisationConstants(tuple(energies), scale, shift, neighbors)


def _batches(
    labels: Sequence[Label],
    store: GraphStore,
    factory: ModelFactory,
    atomic_energies: Sequence[float],
) -> Any:
    """One batch at a time: all of 10,000 structures would not fit into memory.

    On the CPU, where MACE computes statistics; energies relative to the sum of the E0s.
    """
    return (
        training_batch(graphs, factory, atomic_energies).to("cpu")
        for graphs in store.groups(labels, BATCH)
    )


def _average_energies(labels: Sequence[Label], factory: ModelFactory) -> list[float]:
    configurations = [
        Configuration(
            atomic_numbers=np.asarray(label.numbers),
            positions=label.positions,
            properties={"energy": label.energy},
            property_weights={},
            head=HEAD,
        )
        for label in labels
    ]
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
