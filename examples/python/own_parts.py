"""Parts of your own: engine, model, uncertainty measure, integrator: ``own_parts.py FOLDER``.

The engine here is a pair potential of a few lines; yours calls whatever gives energies and forces.
"""

import sys
from dataclasses import replace

import numpy as np
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.md.langevin import Langevin as AseLangevin
from objects import WATER

from fhi_al import Backend, ReferenceResult, Threshold
from fhi_al.md.integrator import Integrator
from fhi_al.md.langevin import LANGEVIN
from fhi_al.models.torch_backend import TorchBackend
from fhi_al.settings.mace import ModelArchitecture
from fhi_al.settings.value_types import Integer, Number, setting


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


class Histogram(ModelArchitecture):
    """The settings of :class:`LinearModel`, with bounds: its section ARCHITECTURE."""

    r_max: Number = setting(4.0, "Cutoff radius.", unit="A", gt=0)
    num_bins: Integer = setting(20, "Smooth bins of the distance.", ge=2)


class LinearModel(TorchBackend):
    """A kind of models: energies of atoms, linear in a smooth histogram of their neighbours."""

    architecture = Histogram

    def new_module(self) -> torch.nn.Module:
        """Weights of the bins, for each pair of elements."""
        n_bins = int(self.settings.architecture.num_bins)
        return torch.nn.Linear(n_bins * len(self.elements) ** 2, 1)

    def features(self, module: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """(n_atoms, n_features): the histogram by the elements of atom and neighbour."""
        first, second = inputs["edge_index"]
        positions, kinds = inputs["positions"], inputs["node_attrs"]
        distances = (positions[second] - positions[first] + inputs["shifts"]).norm(dim=1)
        n_bins = int(self.settings.architecture.num_bins)
        centres = torch.linspace(0.5, self.r_max, n_bins).to(positions)
        width = (self.r_max - 0.5) / (n_bins - 1)
        bins = torch.exp(-(((distances[:, None] - centres) / width) ** 2))
        bins = bins * torch.cos(distances / self.r_max * torch.pi / 2)[:, None] ** 2
        of_pairs = torch.einsum("pa,pb,pk->pabk", kinds[first], kinds[second], bins).flatten(1)
        return of_pairs.new_zeros(len(kinds), of_pairs.shape[1]).index_add(0, first, of_pairs)

    def energies(self, module: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """(n_structures,) in eV, relative to the sum of the E0s."""
        of_atoms = module(self.features(module, inputs)).squeeze(1)
        n_structures = len(inputs["ptr"]) - 1
        return of_atoms.new_zeros(n_structures).index_add(0, inputs["batch"], of_atoms)


def second_largest(forces: np.ndarray) -> float:
    """An uncertainty measure: members' forces (n_members, n_atoms, 3) in eV/A -> a number."""
    spread = np.sqrt(((forces - forces.mean(axis=0)) ** 2).mean(axis=(0, 2)))
    return float(np.sort(spread)[-2])


def with_half(constants):
    """What an integrator goes by, at half of the temperature."""
    return replace(constants, temperature=constants.temperature / 2)


# An integrator: Langevin at half of the temperature.
COOLED = Integrator(
    first_half=lambda state, c, forces, noise: LANGEVIN.first_half(
        state, with_half(c), forces, noise
    ),
    second_half=lambda state, c, forces, noise: LANGEVIN.second_half(
        state, with_half(c), forces, noise
    ),
    draw=LANGEVIN.draw,
)


def cooled(atoms, conditions, generator):
    """The same in ASE's form: one trajectory at a time, random numbers from the generator."""
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
        model=Backend(LinearModel, members=2, num_bins=16, lr=0.05, batch_size=4),
        criterion=Threshold(second_largest, c_x=0.1),
        integrator=COOLED,
        options={**WATER.options, "final_test": 2},  # of the finished models, on MD of this kind
    )
    result = job.run(sys.argv[1] if len(sys.argv) > 1 else "springs")
    if result is not None:
        print(f"{result.n_labels} labels, force MAE {result.force_mae:.4f} eV/A")
