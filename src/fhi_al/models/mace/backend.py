"""MACE as a model backend: its builder, loss, parameter groups, normalisation and files."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from mace.data.neighborhood import get_neighborhood
from mace.tools.compile import disable_e3nn_codegen
from mace.tools.scripts_utils import get_params_options
from mace.tools.utils import AtomicNumberTable

from fhi_al.core.label import Label
from fhi_al.core.structure import Array
from fhi_al.models.cuda_graphs import recordings_on
from fhi_al.models.default_dtype import default_dtype
from fhi_al.models.devices import cuequivariance_problem
from fhi_al.models.graphs import LabelGraph, Neighbours, Tensors
from fhi_al.models.interface import InferenceWeights, NormalisationConstants
from fhi_al.models.loss import Loss, LossWeights
from fhi_al.models.mace import quiet_mace
from fhi_al.models.mace.acceleration import Acceleration, Model, Trial
from fhi_al.models.mace.arguments import (
    architecture_identity,
    fine_tuning_identity,
    mace_arguments,
)
from fhi_al.models.mace.cuequivariance import CuequivarianceTwin, required
from fhi_al.models.mace.descriptors import invariant_features
from fhi_al.models.mace.exports import (
    MaceModel,
    export_compiled,
    export_model,
    model_misfit,
    normalisation_of,
    read_exported,
)
from fhi_al.models.mace.fine_tuning import (
    Merging,
    freeze,
    has_adapters,
    vary_readouts,
    with_adapters,
)
from fhi_al.models.mace.foundation import foundation_of
from fhi_al.models.mace.loss import MaceLoss
from fhi_al.models.mace.new_model import new_model
from fhi_al.models.mace.normalisation import training_normalisation
from fhi_al.models.mace.replay import HEAD as REPLAY_HEAD
from fhi_al.models.mace.replay import (
    ReplayModel,
    is_replayed,
    judged_structures,
    structures_of,
)
from fhi_al.models.mace.runtime_model import remove_atomic_energies, to_runtime_model
from fhi_al.models.torch_backend import DTYPES, TorchBackend
from fhi_al.models.torch_model import TorchInference, TorchModel

HEAD = "Default"
# Of which MACE's conversion to cuEquivariance knows how.
CONVERTED_CORRELATIONS = (2, 3)


class MaceBackend(TorchBackend):
    """MACE models of one architecture; see :class:`fhi_al.models.interface.ModelBackend`.

    Parameters
    ----------
    settings
        The settings of mace_settings.yaml.
    elements
        Atomic numbers the models know.
    device
        Instead of ``MISC.device``.

    Raises
    ------
    ValueError
        If MACE refuses a setting, or cuEquivariance is demanded and not there.
    """

    def __init__(self, settings: Any, elements: Sequence[int], device: str | None = None) -> None:
        self.foundation = foundation_of(settings, elements)
        self.arguments: argparse.Namespace = mace_arguments(settings)
        if self.foundation is not None and settings.architecture.foundation_elements == "all":
            elements = self.foundation.elements
        super().__init__(settings, elements, device)
        self.table = AtomicNumberTable(list(self.elements))
        self._mergings: WeakKeyDictionary[torch.nn.Module, Merging] = WeakKeyDictionary()
        self._template: torch.nn.Module | None = None
        self._template_seed: int | None = None
        self._acceleration = Acceleration(
            self._wanted_acceleration(),
            self.device,
            self._new_twin,
            lambda: recordings_on(self.device, str(settings.misc.cuda_graphs)).recorder,
        )

    @property
    def r_max(self) -> float:
        """Cutoff radius in A."""
        return float(self.arguments.r_max)

    def identity(self) -> dict[str, Any]:
        """See :meth:`fhi_al.models.interface.ModelBackend.identity`."""
        identity = architecture_identity(self.settings, self.elements)
        if self.foundation is not None:
            identity |= fine_tuning_identity(self.settings, self.foundation.digest)
        return identity

    def search_within(
        self, positions: Array, pbc: tuple[bool, bool, bool], cell: Array, cutoff: float
    ) -> Neighbours:
        """Neighbours by MACE's own search, which writes into the cell of a molecule."""
        pairs, _, unit_shifts, cell = get_neighborhood(positions, cutoff, pbc, cell)
        return Neighbours(pairs, unit_shifts, cell)

    def loss(self, weights: LossWeights) -> Loss:
        """MACE's loss, with these weights; on a GPU the same without waiting for it."""
        if self.device.type != "cpu":
            return super().loss(weights)
        return MaceLoss(self.arguments, weights, DTYPES[self.dtype], self.device)

    def optimizer_options(self, module: torch.nn.Module) -> dict[str, Any]:
        """MACE's parameter groups."""
        with quiet_mace():
            options: dict[str, Any] = get_params_options(self.arguments, module)
        return options

    def apply_normalisation(
        self, module: torch.nn.Module, constants: NormalisationConstants
    ) -> None:
        """Write constants into a model in the form that is run; its weights stay."""
        model: MaceModel = module
        with torch.no_grad():
            # A state of an older program holds them.
            remove_atomic_energies(model)
            model.scale_shift.scale.fill_(constants.scale)
            model.scale_shift.shift.fill_(constants.shift)
        # A plain attribute of each interaction block: the state dict does not hold it.
        for interaction in model.interactions:
            interaction.avg_num_neighbors = constants.avg_num_neighbors

    def fit_normalisation(
        self, labels: Sequence[Label], atomic_energies: Mapping[int, float] | None
    ) -> NormalisationConstants:
        """Constants by MACE's functions; those of the foundation model, if there is one."""
        known = self.known_constants(atomic_energies)
        if known is not None:
            return known
        return training_normalisation(labels, self, self.arguments, atomic_energies)

    def known_constants(
        self, atomic_energies: Mapping[int, float] | None
    ) -> NormalisationConstants | None:
        """See :meth:`fhi_al.models.interface.ModelBackend.known_constants`."""
        if self.foundation is None:
            return None
        found = self.foundation.constants
        own = dict(zip(self.foundation.elements, found.atomic_energies, strict=True))
        energies = {**own, **(atomic_energies or {})}
        return replace(found, atomic_energies=tuple(energies[z] for z in self.elements))

    def new_module(self) -> torch.nn.Module:
        """A new model in the form that is run."""
        return self.to_runtime_model(self._new_mace_model())

    def to_train(self, module: torch.nn.Module) -> torch.nn.Module:
        """The layers that ``TRAINING.fine_tuning`` trains, where there is a foundation model."""
        training = self.settings.training
        if self.foundation is None:
            return module
        freeze(module, self.arguments)
        if training.fine_tuning == "lora":
            return with_adapters(module, training.lora_rank, training.lora_alpha)
        return module

    def in_training(
        self, module: torch.nn.Module, normalisation: NormalisationConstants, seed: int
    ) -> TorchModel:
        """As any other; with structures of replay in its steps, if there are any."""
        if not self.replays:
            return super().in_training(module, normalisation, seed)
        per_step = int(self.settings.training.replay_batch)
        return ReplayModel(self, module, normalisation, self._replay, per_step, seed)

    @property
    def replays(self) -> bool:
        """Whether structures of the foundation model are trained on, too."""
        return self.foundation is not None and self.settings.training.fine_tuning == "replay"

    @property
    def heads(self) -> tuple[str, ...]:
        """Of the models: ours, and that of the replay."""
        return (HEAD, REPLAY_HEAD) if self.replays else (HEAD,)

    @cached_property
    def _replay(self) -> list[LabelGraph]:
        """The structures of the replay, labelled by the foundation model."""
        assert self.foundation is not None
        atoms = structures_of(self.settings.training.replay_file, self.elements)
        with self._seeded(None):
            model = new_model(self.arguments, self.table, (HEAD,), self.foundation.model)
            module = self.to_runtime_model(model).to(self.device)
        judge = TorchInference(self, module, DTYPES[self.dtype])
        judge.load(InferenceWeights({}, self._foundation_constants))
        return judged_structures(self, judge, atoms, stress=self._trains_stress)

    @property
    def _foundation_constants(self) -> NormalisationConstants:
        known = self.known_constants(None)
        assert known is not None
        return known

    def training_batch(
        self, samples: Sequence[LabelGraph], constants: NormalisationConstants
    ) -> Tensors:
        """As any other; structures of replay are of the second head."""
        tensors = super().training_batch(samples, constants)
        if not self.replays:
            return tensors
        return {**tensors, "head": torch.as_tensor(_replayed(samples), device=self.device).long()}

    def wanted_energies(
        self, samples: Sequence[LabelGraph], constants: NormalisationConstants
    ) -> Array:
        """Relative to the sum of the E0s: of structures of replay those of the foundation model."""
        energies = super().wanted_energies(samples, constants)
        if not self.replays:
            return energies
        theirs = super().wanted_energies(samples, self._foundation_constants)
        return np.where(_replayed(samples), theirs, energies)

    def inference_tensors(
        self, module: torch.nn.Module, tensors: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Adapters merged into the layers that they are on."""
        return self._merging(module).merged(tensors) if has_adapters(module) else tensors

    def _merging(self, module: torch.nn.Module) -> Merging:
        if module not in self._mergings:
            self._mergings[module] = Merging(module)
        return self._mergings[module]

    def _new_mace_model(self) -> torch.nn.Module:
        foundation = None if self.foundation is None else self.foundation.model
        model = new_model(self.arguments, self.table, self.heads, foundation)
        if foundation is not None:
            training = self.settings.training
            vary_readouts(model, training.readouts, training.readout_noise)
        return model

    def to_runtime_model(self, model: MaceModel) -> torch.nn.Module:
        """A model as MACE builds and saves it in the form that is trained and run here."""
        return to_runtime_model(model, self.device)

    def module(self, seed: int | None) -> torch.nn.Module:
        """A new model on the device.

        Building with compiled e3nn code takes 1.5 s, copying the result 0.08 s, building without
        compiled code 0.7 s, and the initial weights are the same numbers either way.
        """
        if self._template is None:
            self._template_seed = 0 if seed is None else seed
            self._template = super().module(self._template_seed)
        with quiet_mace():
            model = copy.deepcopy(self._template)
        if seed is not None and seed != self._template_seed:
            with disable_e3nn_codegen():
                model.load_state_dict(super().module(seed).state_dict())
        return model

    def places(self, n_atoms: tuple[int, ...]) -> tuple[Any, Mapping[str, torch.Tensor]]:
        """Which atoms belong to which structure, and the head of each."""
        starts, tensors = super().places(n_atoms)
        return starts, {**tensors, "head": _heads(len(n_atoms), self.device)}

    def energies(self, module: torch.nn.Module, inputs: Tensors) -> torch.Tensor:
        """See :meth:`fhi_al.models.torch_backend.TorchBackend.energies`."""
        with self._index_tensors():
            model = self._model_to_run(module, inputs, training=False)
            found = model(_own(inputs), training=False, compute_force=False)
        energies: torch.Tensor = found["energy"]
        return energies

    def outputs(
        self, module: torch.nn.Module, inputs: Tensors, *, training: bool, stress: bool
    ) -> Tensors:
        """Energies, forces and stress as MACE computes them."""
        with self._index_tensors():
            model = self._model_to_run(module, inputs, training=training)
            return model(_own(inputs), training=training, compute_force=True, compute_stress=stress)

    def _model_to_run(self, module: torch.nn.Module, inputs: Tensors, *, training: bool) -> Model:
        """The module itself, or the same with cuEquivariance."""
        trial = Trial(module, lambda: _own(inputs), training, self._reports_stress)
        return self._acceleration.model(trial)

    def _wanted_acceleration(self) -> Literal["auto"] | bool:
        """``MISC.enable_cueq``; off if that is ``auto`` and nothing can come of it."""
        wanted: Literal["auto"] | bool = self.settings.misc.enable_cueq
        if wanted is True:
            required()
        may_help = (
            self.device.type == "cuda"
            and self.arguments.correlation in CONVERTED_CORRELATIONS
            and cuequivariance_problem(self.device.type) is None
        )
        return wanted if wanted is True or may_help else False

    def _new_twin(self, dtype: torch.dtype) -> CuequivarianceTwin:
        # On the CPU: it is asked for while tensors are made on the device (_index_tensors), where
        # e3nn's random numbers cannot be.
        with torch.device("cpu"), default_dtype(dtype), torch.random.fork_rng(devices=[]):
            return CuequivarianceTwin(self._new_mace_model, dtype, self.device)

    def _index_tensors(self) -> AbstractContextManager[object]:
        """Make tensors for which MACE names no device on that of the model: a GPU would wait."""
        return nullcontext() if self.device.type == "cpu" else self.device

    def features(self, module: torch.nn.Module, inputs: Tensors) -> torch.Tensor:
        """MACE's own descriptors."""
        with self._index_tensors():
            return invariant_features(module, _own(inputs))

    def export(self, model: TorchInference, path: Path) -> None:
        """A file for MACE's own calculator."""
        export_model(model.module, HEAD, model.normalisation.atomic_energies, path)

    def export_compiled(self, model: TorchInference, path: Path) -> None:
        """TorchScript, as MACE's training command writes it."""
        export_compiled(model.module, HEAD, model.normalisation.atomic_energies, path)

    def read_exported(
        self, path: Path, module: torch.nn.Module
    ) -> tuple[dict[str, Any], NormalisationConstants]:
        """Weights and constants of a file that MACE or :meth:`export` wrote: a pickle."""
        other = read_exported(path)
        constants = normalisation_of(other)
        if self.replays and tuple(int(z) for z in other.atomic_numbers) == self.elements:
            with self._seeded(None):
                other = new_model(self.arguments, self.table, self.heads, other)
        other = self.to_runtime_model(other)
        plain = self._template if has_adapters(module) else module
        assert plain is not None
        misfit = model_misfit(other, self.elements, self.r_max, plain)
        if misfit is not None:
            raise ValueError(f"{path}: {misfit}. Use the settings the model was trained with.")
        weights = other.state_dict()
        return self._merging(module).split(weights) if has_adapters(module) else weights, constants


def _replayed(samples: Sequence[LabelGraph]) -> list[bool]:
    return [is_replayed(sample.label) for sample in samples]


def _own(inputs: Tensors) -> Tensors:
    """A batch for one call: MACE replaces entries, and makes the positions ask for gradients."""
    return {**inputs, "positions": inputs["positions"].detach()}


@lru_cache(maxsize=64)
def _heads(n_structures: int, device: torch.device) -> torch.Tensor:
    return torch.zeros(n_structures, dtype=torch.int64, device=device)
