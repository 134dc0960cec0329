"""Scale, shift and average number of neighbours of a training set, by MACE's functions."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from mace.modules import compute_avg_num_neighbors, scaling_classes
from mace.tools import torch_geometric

from fhi_al.core.label import Label
from fhi_al.models.default_dtype import default_dtype
from fhi_al.models.interface import NormalisationConstants
from fhi_al.models.normalisation import (
    SMALLEST_SCALE,
    reference_energies,
    require_labels,
    usable,
)
from fhi_al.models.torch_backend import DTYPES, TorchBackend

# Structures that are looked at together.
BATCH = 16


def training_normalisation(
    labels: Sequence[Label],
    backend: TorchBackend,
    arguments: argparse.Namespace,
    atomic_energies: Mapping[int, float] | None,
) -> NormalisationConstants:
    """See :meth:`fhi_al.models.interface.ModelBackend.fit_normalisation`.

    Parameters
    ----------
    labels, atomic_energies
    backend
        Makes the batches.
    arguments
        MACE's namespace.
    """
    require_labels(labels)
    energies = tuple(reference_energies(labels, backend.elements, atomic_energies))
    with default_dtype(DTYPES[backend.dtype]):
        scale, shift = 1.0, 0.0
        if arguments.scaling != "no_scaling":
            mean, spread = scaling_classes[arguments.scaling](
                _batches(labels, backend, energies), np.zeros((1, len(energies)))
            )
            scale = usable(float(np.squeeze(spread)), 1.0, SMALLEST_SCALE)
            # MACE's own rule: the model named MACE has no shift.
            shift = usable(float(np.squeeze(mean)), 0.0) if arguments.model != "MACE" else 0.0
        neighbors = 1.0
        if backend.settings.architecture.compute_avg_num_neighbors:
            bonded = [label for label in labels if backend.label_sample(label).n_pairs]
            if bonded:
                batches: Any = _batches(bonded, backend, energies)
                neighbors = usable(float(compute_avg_num_neighbors(batches)), 1.0)
    return NormalisationConstants(energies, scale, shift, neighbors)


def _batches(
    labels: Sequence[Label], backend: TorchBackend, atomic_energies: tuple[float, ...]
) -> Iterator[Any]:
    """One batch at a time: all of 10,000 structures would not fit into memory.

    On the CPU, where MACE computes them; energies relative to the sum of the E0s.
    """
    constants = NormalisationConstants(atomic_energies)
    for start in range(0, len(labels), BATCH):
        samples = [backend.label_sample(label) for label in labels[start : start + BATCH]]
        tensors = backend.training_batch(samples, constants)
        yield torch_geometric.Batch(**tensors).to("cpu")
