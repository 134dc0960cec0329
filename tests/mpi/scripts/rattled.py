"""Seeded distortions of a structure, the same in a script under mpirun and in the test above it."""

from __future__ import annotations

import numpy as np

from fhi_al.core.structure import Array, Structure

AMPLITUDE = 0.05  # A


def rattled(structure: Structure, seed: int) -> tuple[Array, Array]:
    """Positions displaced and cell strained with generator ``seed``; as they are with 0."""
    if seed == 0:
        return structure.positions, structure.cell
    generator = np.random.default_rng(seed)
    strain = np.eye(3) + 0.01 * generator.standard_normal((3, 3)) * structure.pbc
    shift = AMPLITUDE * generator.standard_normal(structure.positions.shape)
    return structure.positions @ strain + shift, structure.cell @ strain
