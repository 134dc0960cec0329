"""What torch backends have in common: batches, forces, stress, training, states, exports.

A backend of its own says how its module is built, what energies it gives, and what describes atoms;
everything else here may be left as it is.  Knows no kind of model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fhi_al.core.label import Label
from fhi_al.core.structure import Array
from fhi_al.models.batches import (
    energy_sums,
    graph_tensors,
    places_in_batch,
    reference_tensors,
    relative_energies,
)
from fhi_al.models.cuda_graphs import recordings_on
from fhi_al.models.default_dtype import default_dtype
from fhi_al.models.derivatives import energy_and_derivatives
from fhi_al.models.devices import batch_limits
from fhi_al.models.exported import export_model, read_exported
from fhi_al.models.graphs import Graph, LabelGraph, LabelGraphs, Neighbours, Tensors, graph_of
from fhi_al.models.interface import (
    Geometry,
    NormalisationConstants,
    Prediction,
    ValidationErrors,
)
from fhi_al.models.loss import EnergyForcesLoss, Loss, LossWeights, Share
from fhi_al.models.neighbour_lists import NeighbourLists
from fhi_al.models.neighbours import neighbours
from fhi_al.models.normalisation import fitted_normalisation
from fhi_al.models.out_of_memory import in_halves
from fhi_al.models.padding import BatchSizes, without_padding
from fhi_al.models.torch_model import TorchInference, TorchModel
from fhi_al.models.validation_errors import validation_errors

DTYPES = {"float32": torch.float32, "float64": torch.float64}
# Of those that :func:`fhi_al.models.batches.graph_tensors` makes, what is joined along rows.
_OF_GRAPHS = ("positions", "cell", "node_attrs", "shifts", "unit_shifts")


class TorchBackend(ABC):
    """A :class:`fhi_al.models.interface.ModelBackend` of torch modules.

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
        self.recordings = recordings_on(self.device, str(settings.misc.cuda_graphs))
        training = self.settings.training
        self._loss = self.loss(LossWeights.first_stage(training))
        self._second_loss = self.loss(LossWeights.second_stage(training))
        # What is trained on, and of what errors are reported.
        self._trains_stress = bool(training.has_stress_loss)
        self._reports_stress = self._trains_stress or bool(settings.general.compute_stress)
        limits = batch_limits(self.device.type)
        self.most_pairs = limits.most_pairs
        self._labels = LabelGraphs(
            self.elements,
            self.search,
            self._weight,
            self._tensors_of_one,
            limits.most_ready_bytes,
        )

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

    def apply_normalisation(  # noqa: B027 (need not be overridden)
        self, module: torch.nn.Module, constants: NormalisationConstants
    ) -> None:
        """Give a module scale, shift and average number of neighbours, if it has any."""

    def fit_normalisation(
        self, labels: Sequence[Label], atomic_energies: Mapping[int, float] | None
    ) -> NormalisationConstants:
        """See :meth:`fhi_al.models.interface.ModelBackend.fit_normalisation`."""
        samples = [self.label_sample(label) for label in labels]
        scaling = str(self.settings.training.scaling)
        return fitted_normalisation(samples, self.elements, atomic_energies, scaling)

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

    # What follows.

    def _weight(self, label: Label) -> float:
        weights: Mapping[str, float] = self.settings.training.config_type_weights or {}
        return float(weights.get(label.config_type, weights.get("Default", 1.0)))

    def sample(self, geometry: Geometry) -> Graph | LabelGraph | None:
        """See :meth:`fhi_al.models.interface.ModelBackend.sample`."""
        place = getattr(geometry, "place", None)
        if place is not None and self.lists is not None:
            return graph_of(geometry, self.elements, partial(self.lists.neighbours, place))
        return self._labels.known(geometry) or graph_of(geometry, self.elements, self.search)

    @cached_property
    def lists(self) -> NeighbourLists | None:
        """Of the neighbours of moving structures; None for a backend with a search of its own."""
        if type(self).search is not TorchBackend.search:
            return None
        return NeighbourLists(self.search_within, self.r_max)

    def label_sample(self, label: Label) -> LabelGraph:
        """See :meth:`fhi_al.models.interface.ModelBackend.label_sample`."""
        return self._labels.get(label)

    def module(self, seed: int | None) -> torch.nn.Module:
        """A new module on the device; see :meth:`trainable` for the seed."""
        # fork_rng: the process's own random stream must not depend on when a model is built.
        with default_dtype(DTYPES[self.dtype]), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0 if seed is None else seed)
            return self.new_module().to(self.device)

    def trainable(self, seed: int | None) -> TorchModel:
        """See :meth:`fhi_al.models.interface.ModelBackend.trainable`."""
        unknown = NormalisationConstants((0.0,) * len(self.elements))
        return TorchModel(self, self.module(seed), unknown)

    def inference(self, dtype: str | None = None) -> TorchInference:
        """See :meth:`fhi_al.models.interface.ModelBackend.inference`."""
        precision = DTYPES[self.dtype if dtype is None else dtype]
        module = self.module(None).to(precision)
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        return TorchInference(self, module, precision)

    def predict(
        self,
        models: Sequence[TorchInference],
        samples: Sequence[Graph | LabelGraph],
        *,
        stress: bool = False,
    ) -> list[Prediction]:
        """See :meth:`fhi_al.models.interface.ModelBackend.predict`."""
        inputs = self.inputs(samples, models[0].dtype)
        elements = [sample.elements for sample in samples]
        found = _arrays([self._evaluated(model, inputs, stress) for model in models])
        sums = [energy_sums(elements, model.normalisation.atomic_energies) for model in models]
        energies = found["energy"] + np.array(sums)
        ends = np.cumsum([sample.n_atoms for sample in samples])
        return [
            Prediction(
                energies[:, place],
                of_one,
                _stress(found["stress"][:, place], sample.whole().is_crystal) if stress else None,
            )
            for place, (sample, of_one) in enumerate(
                zip(samples, np.split(found["forces"], ends[:-1], axis=1), strict=True)
            )
        ]

    def errors(
        self, model: TorchInference, batches: Sequence[Sequence[LabelGraph]]
    ) -> ValidationErrors:
        """See :meth:`fhi_al.models.interface.ModelBackend.errors`."""

        def predicted(samples: Sequence[LabelGraph]) -> list[Tensors]:
            inputs = self.inputs(samples, model.dtype)
            return [self._evaluated(model, inputs, stress=self._reports_stress)]

        parts = [one for batch in batches for one in in_halves(batch, predicted)]
        output = {name: torch.cat([one[name] for one in parts]) for name in parts[0]}
        samples = [sample for batch in batches for sample in batch]
        wanted = relative_energies(samples, model.normalisation.atomic_energies)
        with default_dtype(model.dtype), torch.no_grad():
            reference = self._reference(samples, model.normalisation, model.dtype)
            loss = float(self._loss(output, {**reference, "ptr": self._places(samples)[1]["ptr"]}))
        found = {name: _array(values) for name, values in output.items()}
        energies = found["energy"] - wanted
        return validation_errors(samples, energies, found["forces"], loss, found.get("stress"))

    def energy_errors(
        self, model: TorchInference, batches: Sequence[Sequence[LabelGraph]]
    ) -> Array:
        """See :meth:`fhi_al.models.interface.ModelBackend.energy_errors`."""

        def energies_of(tensors: Tensors) -> Tensors:
            with default_dtype(model.dtype), torch.no_grad():
                return {"energy": self.energies(model.module, tensors)}

        def predicted(samples: Sequence[LabelGraph]) -> list[torch.Tensor]:
            inputs = self.inputs(samples, model.dtype)
            return [self._replayed(model, "energies", energies_of, inputs)["energy"]]

        parts = [one for batch in batches for one in in_halves(batch, predicted)]
        energies = _array(torch.cat(parts))
        samples = [sample for batch in batches for sample in batch]
        wanted = relative_energies(samples, model.normalisation.atomic_energies)
        return np.where([sample.weight > 0 for sample in samples], energies - wanted, np.nan)

    def descriptors(
        self, model: TorchInference, samples: Sequence[Graph | LabelGraph]
    ) -> list[Array]:
        """See :meth:`fhi_al.models.interface.ModelBackend.descriptors`."""
        inputs = self.inputs(samples, model.dtype)
        with default_dtype(model.dtype), torch.no_grad():
            found = self.features(model.module, inputs)
        ends = np.cumsum([sample.n_atoms for sample in samples])
        return np.split(_array(found), ends[:-1])

    def training_loss(
        self,
        module: torch.nn.Module,
        tensors: Tensors,
        energy_share: Share,
        forces_share: Share,
        second_stage: bool = False,
    ) -> torch.Tensor:
        """See :meth:`fhi_al.models.torch_model.TorchParts.training_loss`."""
        output = self.outputs(module, tensors, training=True, stress=self._trains_stress)
        loss = self._second_loss if second_stage else self._loss
        return loss(output, tensors, energy_share, forces_share)

    def inputs(self, samples: Sequence[Graph | LabelGraph], dtype: torch.dtype) -> Tensors:
        """Structures as a batch, what tells them apart included."""
        kept = self._kept(samples, dtype)
        starts, places = self._places(samples)
        if kept is None:
            graphs = [sample.whole() for sample in samples]
            tensors = graph_tensors(graphs, len(self.elements), dtype, self.device)
        else:
            tensors = {name: torch.cat([one[name] for one in kept]) for name in _OF_GRAPHS}
            pairs = [
                one["edge_index"] + int(start) for one, start in zip(kept, starts, strict=True)
            ]
            tensors["edge_index"] = torch.cat(pairs, dim=1)
        return {**tensors, **places}

    def training_batch(
        self, samples: Sequence[LabelGraph], constants: NormalisationConstants
    ) -> Tensors:
        """Structures as a batch, and what the loss compares with."""
        dtype = DTYPES[self.dtype]
        return {**self.inputs(samples, dtype), **self._reference(samples, constants, dtype)}

    def _kept(
        self, samples: Sequence[Graph | LabelGraph], dtype: torch.dtype
    ) -> list[Tensors] | None:
        """The tensors that are on the device, if those of all samples are, in this precision."""
        if dtype != DTYPES[self.dtype]:
            return None
        kept = [one.ready for one in samples if isinstance(one, LabelGraph) and one.ready]
        return kept if len(kept) == len(samples) else None

    def _tensors_of_one(self, graph: LabelGraph) -> Tensors:
        dtype = DTYPES[self.dtype]
        return graph_tensors([graph.whole()], len(self.elements), dtype, self.device) | (
            reference_tensors([graph], dtype, self.device)
        )

    def _reference(
        self, samples: Sequence[LabelGraph], constants: NormalisationConstants, dtype: torch.dtype
    ) -> Tensors:
        """What a loss compares with."""
        energies = relative_energies(samples, constants.atomic_energies)
        energy = torch.as_tensor(energies, dtype=dtype, device=self.device)
        kept = self._kept(samples, dtype)
        if kept is None:
            return {**reference_tensors(samples, dtype, self.device), "energy": energy}
        names = [name for name in kept[0] if name not in (*_OF_GRAPHS, "edge_index")]
        return {name: torch.cat([one[name] for one in kept]) for name in names} | {"energy": energy}

    def _places(self, samples: Sequence[Graph | LabelGraph]) -> Any:
        return self.places(tuple(sample.n_atoms for sample in samples))

    def _evaluated(self, model: TorchInference, inputs: Tensors, stress: bool) -> Tensors:
        """``energy``, ``forces`` and, if asked for, ``stress`` of a batch, on the device."""
        names = ("energy", "forces", "stress")[: 2 + stress]

        def outputs(tensors: Tensors) -> Tensors:
            with default_dtype(model.dtype):
                found = self.outputs(model.module, tensors, training=False, stress=stress)
            return {name: found[name].detach() for name in names}

        return self._replayed(model, "-".join(names), outputs, inputs)

    def _replayed(
        self,
        model: TorchInference,
        name: str,
        function: Callable[[Tensors], Tensors],
        inputs: Tensors,
    ) -> Tensors:
        """A function of a batch by one model; padded and replayed where that is recorded."""
        if not self.recordings.takes(inputs):
            return function(inputs)
        found = model.replayed(name, function)(inputs)
        return without_padding(found, BatchSizes.of(inputs))


def _array(tensor: torch.Tensor) -> Array:
    values: Array = tensor.detach().cpu().numpy().astype(np.float64)
    return values


def _arrays(outputs: Sequence[Tensors]) -> dict[str, Array]:
    """What several models give for a batch, (n_models, ...) by name; waited for once."""
    first = outputs[0]
    flat = _array(torch.stack([torch.cat([one[n].flatten() for n in first]) for one in outputs]))
    ends = np.cumsum([tensor.numel() for tensor in first.values()])
    parts = np.split(flat, ends[:-1], axis=1)
    return {
        name: part.reshape(len(outputs), *first[name].shape)
        for name, part in zip(first, parts, strict=True)
    }


def _stress(values: Array, is_crystal: bool) -> Array:
    """Of one structure, by member; NaN where there is none."""
    return values if is_crystal else np.full_like(values, np.nan)
