"""A trainable pair potential: a model backend in one file, which the tests of the workflow use."""

from __future__ import annotations

import math
from typing import Any

import torch

from fhi_al.models.graphs import Tensors
from fhi_al.models.torch_backend import TorchBackend
from fhi_al.settings.architecture import ModelArchitecture
from fhi_al.settings.value_types import Integer, Number, setting


class PairArchitecture(ModelArchitecture):
    """A sum of pair energies: one function of the distance for each pair of elements."""

    r_max: Number = setting(4.0, "Cutoff radius.", unit="A", gt=0, le=30)
    num_functions: Integer = setting(10, "Gaussians of the distance, evenly spread.", ge=2)


class PairEnergies(torch.nn.Module):
    """Coefficients of Gaussians of the distance, and a shift of every atom's energy."""

    def __init__(self, n_elements: int, r_max: float, n_functions: int) -> None:
        super().__init__()
        self.coefficients = torch.nn.Parameter(
            0.1 * torch.randn(n_elements, n_elements, n_functions)
        )
        self.shifts = torch.nn.Parameter(torch.zeros(n_elements))
        self.register_buffer("centres", torch.linspace(0.5, r_max, n_functions))
        self.r_max = r_max

    def functions(self, inputs: Tensors) -> torch.Tensor:
        """(n_pairs, n_functions) of the distance; they end smoothly at the cutoff."""
        first, second = inputs["edge_index"]
        positions = inputs["positions"]
        vectors = positions[second] - positions[first] + inputs["shifts"]
        distances = torch.linalg.vector_norm(vectors, dim=1).unsqueeze(1)
        width = self.centres[1] - self.centres[0]
        end = (1 + torch.cos(math.pi * (distances / self.r_max).clamp(max=1))) / 2
        return end * torch.exp(-(((distances - self.centres) / width) ** 2))

    def forward(self, inputs: Tensors) -> torch.Tensor:
        """Energies of the structures, (n_structures,) in eV."""
        first, second = inputs["edge_index"]
        kinds = inputs["node_attrs"]
        symmetric = (self.coefficients + self.coefficients.transpose(0, 1)) / 2
        of_pairs = torch.einsum("pa,pb,abk->pk", kinds[first], kinds[second], symmetric)
        pairs = (of_pairs * self.functions(inputs)).sum(1)
        atoms = (kinds @ self.shifts).index_add(0, first, pairs / 2)
        return atoms.new_zeros(len(inputs["ptr"]) - 1).index_add(0, inputs["batch"], atoms)


class PairPotential(TorchBackend):
    """A pair potential as a backend of :mod:`fhi_al.models`."""

    architecture = PairArchitecture
    without = {  # noqa: RUF012 (read only)
        "MISC.compile_final": "a pair potential cannot be compiled",
        "MISC.enable_cueq": "cuEquivariance is for MACE",
    }

    def new_module(self) -> torch.nn.Module:
        """See :meth:`fhi_al.models.torch_backend.TorchBackend.new_module`."""
        n_functions = int(self.settings.architecture.num_functions)
        return PairEnergies(len(self.elements), self.r_max, n_functions)

    def energies(self, module: Any, inputs: Tensors) -> torch.Tensor:
        """See :meth:`fhi_al.models.torch_backend.TorchBackend.energies`."""
        energies: torch.Tensor = module(inputs)
        return energies

    def features(self, module: Any, inputs: Tensors) -> torch.Tensor:
        """A radial histogram of each atom's neighbours by element."""
        first, second = inputs["edge_index"]
        kinds = inputs["node_attrs"]
        of_pairs = torch.einsum("pa,pk->pak", kinds[second], module.functions(inputs)).flatten(1)
        return of_pairs.new_zeros(len(kinds), of_pairs.shape[1]).index_add(0, first, of_pairs)
