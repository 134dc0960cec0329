"""What torch backends have in common: batches, predictions, errors, training, normalisation.

A backend of its own derives from this and says what it is as
:class:`fhi_al.models.torch_kind.TorchKind` has it: how its module is built, what energies it gives,
what describes atoms.  Knows no kind of model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch

from fhi_al.core.label import Label
from fhi_al.core.structure import Array
from fhi_al.models.batches import (
    BY_STRUCTURE,
    energy_sums,
    graph_tensors,
    reference_tensors,
    relative_energies,
)
from fhi_al.models.cuda_graphs import recordings_on
from fhi_al.models.default_dtype import default_dtype
from fhi_al.models.devices import batch_limits
from fhi_al.models.graphs import Graph, LabelGraph, LabelGraphs, Tensors, graph_of
from fhi_al.models.interface import (
    Geometry,
    NormalisationConstants,
    Prediction,
    ValidationErrors,
)
from fhi_al.models.loss import LossWeights, Share
from fhi_al.models.neighbour_lists import NeighbourLists
from fhi_al.models.normalisation import fitted_normalisation
from fhi_al.models.out_of_memory import in_halves
from fhi_al.models.padding import BatchSizes, without_padding
from fhi_al.models.torch_kind import TorchKind
from fhi_al.models.torch_model import TorchInference, TorchModel
from fhi_al.models.validation_errors import validation_errors

DTYPES = {"float32": torch.float32, "float64": torch.float64}
# Of those that :func:`fhi_al.models.batches.graph_tensors` makes, what is joined along rows.
_OF_GRAPHS = ("positions", "cell", "node_attrs", "shifts", "unit_shifts")
# Under this name the ``BY_STRUCTURE`` of a label are kept as one tensor, which is joined once.
_NUMBERS = "by_structure"


class TorchBackend(TorchKind):
    """A :class:`fhi_al.models.interface.ModelBackend` of torch modules; see :class:`TorchKind`."""

    def __init__(self, settings: Any, elements: Sequence[int], device: str | None = None) -> None:
        super().__init__(settings, elements, device)
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

    def fit_normalisation(
        self, labels: Sequence[Label], atomic_energies: Mapping[int, float] | None
    ) -> NormalisationConstants:
        """See :meth:`fhi_al.models.interface.ModelBackend.fit_normalisation`."""
        samples = [self.label_sample(label) for label in labels]
        scaling = str(self.settings.training.scaling)
        return fitted_normalisation(samples, self.elements, atomic_energies, scaling)

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
        with self._seeded(seed):
            return self.new_module().to(self.device)

    @contextmanager
    def _seeded(self, seed: int | None) -> Iterator[None]:
        # fork_rng: the process's own random stream must not depend on when a model is built.
        with default_dtype(DTYPES[self.dtype]), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0 if seed is None else seed)
            yield

    def trainable(self, seed: int | None) -> TorchModel:
        """See :meth:`fhi_al.models.interface.ModelBackend.trainable`."""
        module = self.module(seed)
        with self._seeded(seed):
            module = self.to_train(module)
        unknown = NormalisationConstants((0.0,) * len(self.elements))
        return self.in_training(module, unknown, 0 if seed is None else seed)

    def in_training(
        self, module: torch.nn.Module, normalisation: NormalisationConstants, seed: int
    ) -> TorchModel:
        """A module with all that moves its weights."""
        return TorchModel(self, module, normalisation)

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

        parts = [one for batch in batches for one in in_halves(batch, predicted, self.free_memory)]
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

        parts = [one for batch in batches for one in in_halves(batch, predicted, self.free_memory)]
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

    def free_memory(self) -> bool:
        """Give up recordings, which only save time, also of steps; whether there were any."""
        return self.recordings.forget()

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

    def wanted_energies(
        self, samples: Sequence[LabelGraph], constants: NormalisationConstants
    ) -> Array:
        """Labels' energies as a model is trained on them, (n_labels,) in eV."""
        return relative_energies(samples, constants.atomic_energies)

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
        reference = reference_tensors([graph], dtype, self.device)
        numbers = torch.stack([reference.pop(name) for name in BY_STRUCTURE], dim=1)
        of_graph = graph_tensors([graph.whole()], len(self.elements), dtype, self.device)
        return {**of_graph, **reference, _NUMBERS: numbers}

    def _reference(
        self, samples: Sequence[LabelGraph], constants: NormalisationConstants, dtype: torch.dtype
    ) -> Tensors:
        """What a loss compares with."""
        energies = self.wanted_energies(samples, constants)
        energy = torch.as_tensor(energies, dtype=dtype, device=self.device)
        kept = self._kept(samples, dtype)
        if kept is None:
            return {**reference_tensors(samples, dtype, self.device), "energy": energy}
        names = [name for name in kept[0] if name not in (*_OF_GRAPHS, "edge_index")]
        found = {name: torch.cat([one[name] for one in kept]) for name in names}
        of_structures = zip(BY_STRUCTURE, found.pop(_NUMBERS).unbind(1), strict=True)
        return {**found, **dict(of_structures), "energy": energy}

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
