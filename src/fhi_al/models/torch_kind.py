"""What a kind of torch models has to say, and may say otherwise: module, energies, features, files.

A backend of one's own derives from :class:`fhi_al.models.torch_backend.TorchBackend`, which makes a
backend of this.  Knows no samples, no batches and no models in training.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fhi_al.core.structure import Array
from fhi_al.models.batches import places_in_batch
from fhi_al.models.derivatives import energy_and_derivatives
from fhi_al.models.exported import export_model, read_exported
from fhi_al.models.graphs import Neighbours, Tensors
from fhi_al.models.interface import NormalisationConstants
from fhi_al.models.loss import EnergyForcesLoss, Loss, LossWeights
from fhi_al.models.neighbours import neighbours
from fhi_al.models.torch_model import TorchInference


class TorchKind(ABC):
    """A kind of torch modules, with settings, elements, precision and device.

    Parameters
    ----------
    settings
        Of mace_settings.yaml: sections ``general``, ``architecture``, ``training``, ``misc``.
    elements
        Atomic numbers the models know.
    device
        Instead of ``MISC.device``.
    """

    def __init__(self, settings: Any, elements: Sequence[int], device: str | None = None) -> None:
        self.settings = settings
        self.elements = tuple(sorted({int(number) for number in elements}))
        self.dtype = str(settings.general.default_dtype)
        self.device = torch.device(settings.misc.device if device is None else device)

    # What a backend has to say.

    @abstractmethod
    def new_module(self) -> torch.nn.Module:
        """A new module with random weights, on the CPU.

        Called with torch's random numbers seeded and its default dtype that of training.
        """

    @abstractmethod
    def energies(self, module: torch.nn.Module, inputs: Tensors) -> torch.Tensor:
        """Energies in eV relative to the sum of the E0s, (n_structures,).

        Parameters
        ----------
        module
        inputs
            See :func:`fhi_al.models.batches.graph_tensors`, with ``batch`` and ``ptr`` of
            :func:`fhi_al.models.batches.places_in_batch`.  Vectors of pairs are
            ``positions[edge_index[1]] - positions[edge_index[0]] + shifts``.
        """

    @abstractmethod
    def features(self, module: torch.nn.Module, inputs: Tensors) -> torch.Tensor:
        """Invariant features of all atoms, (n_atoms of all, n_features); no gradients are taken."""

    # What a backend may say otherwise.

    @property
    def r_max(self) -> float:
        """Cutoff radius in A: ``ARCHITECTURE.r_max``."""
        return float(self.settings.architecture.r_max)

    def identity(self) -> dict[str, Any]:
        """See :meth:`fhi_al.models.interface.ModelBackend.identity`."""
        architecture = self.settings.architecture.model_dump(mode="json")
        architecture.pop("atomic_energies", None)
        return {
            "backend": self.settings.backend,
            "elements": list(self.elements),
            "default_dtype": self.dtype,
            **{
                key: str(value) if isinstance(value, list | dict) else value
                for key, value in architecture.items()
            },
        }

    def search(self, positions: Array, pbc: tuple[bool, bool, bool], cell: Array) -> Neighbours:
        """Neighbours of a structure within ``r_max``.

        A backend that has its own is asked for each structure of MD anew; one that has its own
        :meth:`search_within` only when a list of more than these may lack one.
        """
        return self.search_within(positions, pbc, cell, self.r_max)

    def search_within(
        self, positions: Array, pbc: tuple[bool, bool, bool], cell: Array, cutoff: float
    ) -> Neighbours:
        """Neighbours of a structure within a cutoff in A."""
        return neighbours(positions, pbc, cell, cutoff)

    def places(self, n_atoms: tuple[int, ...]) -> tuple[Any, Mapping[str, torch.Tensor]]:
        """Which atoms belong to which structure: :func:`fhi_al.models.batches.places_in_batch`."""
        return places_in_batch(n_atoms, self.device)

    def loss(self, weights: LossWeights) -> Loss:
        """What is minimised; the second stage of a convergence has other weights."""
        training = self.settings.training
        return EnergyForcesLoss(str(training.loss), weights, float(training.huber_delta))

    def optimizer_options(self, module: torch.nn.Module) -> dict[str, Any]:
        """Arguments of torch's Adam."""
        training = self.settings.training
        return {
            "params": list(module.parameters()),
            "lr": float(training.lr),
            "weight_decay": float(training.weight_decay),
            "amsgrad": bool(training.amsgrad),
        }

    def known_constants(
        self, atomic_energies: Mapping[int, float] | None
    ) -> NormalisationConstants | None:
        """See :meth:`fhi_al.models.interface.ModelBackend.known_constants`; None."""
        return None

    def to_train(self, module: torch.nn.Module) -> torch.nn.Module:
        """A new module, on its device, in the form in which it is trained: the same.

        Called with torch's random numbers seeded and its default dtype that of training.
        """
        return module

    def inference_tensors(
        self, module: torch.nn.Module, tensors: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Tensors of a module in training as those of one that predicts: the same."""
        return tensors

    def apply_normalisation(  # noqa: B027 (need not be overridden)
        self, module: torch.nn.Module, constants: NormalisationConstants
    ) -> None:
        """Give a module scale, shift and average number of neighbours, if it has any."""

    def outputs(
        self, module: torch.nn.Module, inputs: Tensors, *, training: bool, stress: bool
    ) -> Tensors:
        """Energies and what follows from them, for a batch.

        Returns
        -------
        dict
            ``energy`` (n_structures,) in eV, ``forces`` (n_atoms of all, 3) in eV/A and, if asked
            for, ``stress`` (n_structures, 3, 3) in eV/A^3.
        """
        return energy_and_derivatives(
            lambda moved: self.energies(module, moved), inputs, training=training, stress=stress
        )

    def export(self, model: TorchInference, path: Path) -> None:
        """Write a model as a file of plain values and tensors, which :meth:`read_exported` reads.

        See :meth:`fhi_al.models.interface.ModelBackend.export`.
        """
        export_model(self.identity(), model.normalisation, model.module.state_dict(), path)

    def read_exported(
        self, path: Path, module: torch.nn.Module
    ) -> tuple[dict[str, Any], NormalisationConstants]:
        """What :meth:`export` wrote.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no such file, or it does not fit the settings.
        """
        return read_exported(self.identity(), path)

    def export_compiled(self, model: TorchInference, path: Path) -> None:
        """Not there, unless a backend has its own."""
        raise RuntimeError(f"models of {type(self).__name__} cannot be compiled")
