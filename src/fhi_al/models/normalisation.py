"""E0s and normalisation constants of a training set, for backends with none of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from fhi_al.core.label import Label
from fhi_al.models.batches import relative_energies
from fhi_al.models.graphs import LabelGraph
from fhi_al.models.interface import NormalisationConstants

# A scale below this (eV/A or eV) is no scale: one structure at rest has zero forces.
SMALLEST_SCALE = 1e-8


def fitted_normalisation(
    samples: Sequence[LabelGraph],
    elements: Sequence[int],
    atomic_energies: Mapping[int, float] | None,
    scaling: str,
) -> NormalisationConstants:
    """E0s, scale, mean energy per atom, average number of neighbours.

    Parameters
    ----------
    samples
        Labels, at least one.
    elements
        Atomic numbers the models know.
    atomic_energies
        The user's E0s in eV by atomic number, used as they are; None for least-squares averages.
    scaling : {"rms_forces_scaling", "std_scaling", "no_scaling"}
        The scale: root mean square of the forces, deviation of the energies per atom, or 1.

    Raises
    ------
    ValueError
        If there is no label, or an element has no E0 among the user's.
    """
    require_labels(samples)
    labels = [sample.label for sample in samples]
    energies = reference_energies(labels, elements, atomic_energies)
    n_atoms = np.array([sample.n_atoms for sample in samples])
    forces = np.concatenate([label.forces for label in labels])
    per_atom = relative_energies(samples, energies) / n_atoms
    scale = {
        "rms_forces_scaling": math.sqrt(np.square(forces).mean()),
        "std_scaling": float(np.std(per_atom)),
        "no_scaling": 1.0,
    }[scaling]
    n_pairs = sum(sample.n_pairs for sample in samples)
    return NormalisationConstants(
        tuple(energies),
        scale=usable(scale, 1.0, SMALLEST_SCALE),
        shift=float(per_atom.mean()) if scaling != "no_scaling" else 0.0,
        avg_num_neighbors=usable(n_pairs / int(n_atoms.sum()), 1.0, 1e-8),
    )


def require_labels(labels: Sequence[object]) -> None:
    """Raise ValueError if there is no label."""
    if not labels:
        raise ValueError("no training labels: normalisation constants need at least one")


def reference_energies(
    labels: Sequence[Label],
    elements: Sequence[int],
    atomic_energies: Mapping[int, float] | None,
) -> list[float]:
    """E0s in eV in the order of the elements: the user's, or least-squares averages.

    Raises
    ------
    ValueError
        If an element has no E0 among the user's.
    """
    if atomic_energies is None:
        counts = np.array(
            [[np.count_nonzero(one.numbers == z) for z in elements] for one in labels], dtype=float
        )
        totals = np.array([label.energy for label in labels])
        return [float(energy) for energy in np.linalg.lstsq(counts, totals, rcond=None)[0]]
    missing = [number for number in elements if number not in atomic_energies]
    if missing:
        raise ValueError(
            "mace_settings.yaml: ARCHITECTURE.atomic_energies: no energy for atomic number "
            f"{', '.join(map(str, missing))}. Expected every element of geometry.in, in eV; "
            "FHI_AL-atomic-energies computes them."
        )
    return [float(atomic_energies[number]) for number in elements]


def usable(value: float, otherwise: float, smallest: float | None = None) -> float:
    """A constant, or what takes its place if it is not finite or too small to divide by."""
    if not math.isfinite(value) or (smallest is not None and value < smallest):
        return otherwise
    return value
