"""Parts of one's own: engine, uncertainty measure, integrator: ``python own_parts.py FOLDER``.

The engine here is a pair potential of a few lines; yours calls whatever gives energies and forces.
"""

import sys
from dataclasses import replace

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.md.langevin import Langevin as AseLangevin
from objects import WATER

from fhi_al import ReferenceResult, Threshold


class Springs:
    """Springs between all atoms: an engine is any object with ``calculate`` and ``close``."""

    def __init__(self, atoms: Atoms, stiffness: float) -> None:
        self._lengths = atoms.get_all_distances()
        self._stiffness = stiffness  # eV/A^2

    def calculate(self, positions: np.ndarray, cell: np.ndarray) -> ReferenceResult:
        """Energy in eV and forces (n_atoms, 3) in eV/A; positions (n_atoms, 3) in A."""
        between = positions[:, None] - positions[None]
        distances = np.linalg.norm(between, axis=2) + np.eye(len(positions))
        stretch = distances - np.eye(len(positions)) - self._lengths
        energy = self._stiffness / 4 * float((stretch**2).sum())
        forces = -self._stiffness * (stretch / distances)[:, :, None] * between
        return ReferenceResult(energy, forces.sum(axis=1), stress=None, converged=True)

    def close(self) -> None:
        """Nothing to give back."""

    def identity(self) -> list:
        """What decides the labels: another launch with other springs does not mix them."""
        return [self._stiffness, self._lengths.tolist()]


def second_largest(forces: np.ndarray) -> float:
    """An uncertainty measure: members' forces (n_members, n_atoms, 3) in eV/A -> a number."""
    spread = np.sqrt(((forces - forces.mean(axis=0)) ** 2).mean(axis=(0, 2)))
    return float(np.sort(spread)[-2])


def cooled(atoms, conditions, generator):
    """An integrator: Langevin at half of the temperature, random numbers from the generator."""
    return AseLangevin(
        atoms,
        timestep=conditions.timestep * units.fs,
        temperature_K=conditions.temperature / 2,
        friction=conditions.friction / units.fs,
        rng=generator,
        fixcm=False,
    )


if __name__ == "__main__":
    job = replace(
        WATER,
        engine=Springs(molecule("H2O"), stiffness=30.0),
        criterion=Threshold(second_largest, c_x=0.1),
        integrator=cooled,
    )
    result = job.run(sys.argv[1] if len(sys.argv) > 1 else "springs")
    if result is not None:
        print(f"{result.n_labels} labels, force MAE {result.force_mae:.4f} eV/A")
