"""Build MACE models, read and write their statistics, evaluate them, and export them."""

from __future__ import annotations

import argparse
import copy
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mace.tools.compile import disable_e3nn_codegen
from mace.tools.model_script_utils import configure_model
from mace.tools.utils import AtomicNumberTable

from fhi_al.models.mace import default_dtype, quiet_mace
from fhi_al.models.mace.arguments import DTYPES, mace_arguments
from fhi_al.models.mace.runtime_model import (
    atomic_energies,
    keep_atomic_energies_beside,
    to_mace_model,
    to_runtime_model,
)

HEAD = "Default"
# A torch module with MACE's attributes, for which MACE gives no types.
MaceModel = Any


@dataclass(frozen=True)
class NormalisationConstants:
    """Numbers of the training set that are part of the function a model computes.

    Parameters
    ----------
    atomic_energies : (n_elements,)
        E0 in eV, in the order of the atomic numbers.
    scale, shift : float
        Of the interaction energy per atom, in eV.
    avg_num_neighbors : float
    """

    atomic_energies: tuple[float, ...]
    scale: float
    shift: float
    avg_num_neighbors: float


class ModelFactory:
    """Makes the members' models: one architecture, one seed each.

    Parameters
    ----------
    settings
        The settings of mace_settings.yaml.
    elements
        Atomic numbers the models know.
    device
        Instead of ``MISC.device``.
    """

    def __init__(self, settings: Any, elements: tuple[int, ...], device: str | None = None) -> None:
        self.settings = settings
        self.elements = tuple(sorted(set(elements)))
        self.arguments: argparse.Namespace = mace_arguments(settings)
        self.dtype: torch.dtype = DTYPES[settings.general.default_dtype]
        self.device = torch.device(settings.misc.device if device is None else device)
        self.table = AtomicNumberTable(list(self.elements))
        self._template: torch.nn.Module | None = None
        self._template_seed: int | None = None
        self._output_args: dict[str, bool] = {}

    @property
    def r_max(self) -> float:
        """Cutoff radius in A."""
        return float(self.arguments.r_max)

    @property
    def output_args(self) -> dict[str, bool]:
        """Which quantities MACE computes in training, as its own functions want it."""
        if not self._output_args:
            self._ready_template(0)
        return self._output_args

    def model(self, seed: int | None) -> torch.nn.Module:
        """A new model; the same weights for the same seed in every process.

        ``None`` gives arbitrary weights, for a state that is loaded next.
        """
        # Building with compiled e3nn code takes 1.5 s, copying the result 0.08 s, building without
        # compiled code 0.7 s, and the initial weights are the same numbers either way.
        template = self._ready_template(0 if seed is None else seed)
        with quiet_mace():
            model = copy.deepcopy(template)
        if seed is not None and seed != self._template_seed:
            with disable_e3nn_codegen():
                model.load_state_dict(self._build(seed).state_dict())
        return model.to(self.device)

    def _ready_template(self, seed: int) -> torch.nn.Module:
        if self._template is None:
            self._template = self._build(seed)
            self._template_seed = seed
        return self._template

    def _build(self, seed: int) -> torch.nn.Module:
        arguments = copy.deepcopy(self.arguments)
        arguments.scaling = "rms_forces_scaling"  # scale and shift are given: nothing is computed
        arguments.mean, arguments.std = [0.0], [1.0]
        arguments.avg_num_neighbors = 1.0
        # fork_rng: the process's own random stream must not depend on when a model is built.
        with quiet_mace(), default_dtype(self.dtype), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            configure: Any = configure_model
            model: torch.nn.Module
            model, self._output_args = configure(
                arguments,
                train_loader=None,
                atomic_energies=np.zeros((1, len(self.elements))),
                heads=[HEAD],
                z_table=self.table,
            )
        return self.to_runtime_model(model)

    def to_runtime_model(self, model: torch.nn.Module) -> torch.nn.Module:
        """A model as MACE builds and saves it in the form that is trained and run here.

        Raises
        ------
        ValueError
            If that needs cuEquivariance and it is not there.
        """
        return to_runtime_model(model, self.device, self.settings.misc.enable_cueq)


def model_misfit(other: MaceModel, factory: ModelFactory, model: torch.nn.Module) -> str | None:
    """Why the weights of `other` cannot be those of `model`, or None."""
    elements = tuple(int(number) for number in other.atomic_numbers)
    if elements != factory.elements:
        return f"knows the atomic numbers {elements}, geometry.in has {factory.elements}"
    if abs(float(other.r_max) - factory.r_max) > 1e-6:  # A, float32
        return f"r_max = {float(other.r_max)}, mace_settings.yaml has {factory.r_max}"
    theirs, ours = ({n: t.shape for n, t in m.state_dict().items()} for m in (other, model))
    different = sorted(n for n in theirs.keys() | ours.keys() if theirs.get(n) != ours.get(n))
    if different:
        return (
            "its weights do not fit ARCHITECTURE of mace_settings.yaml "
            f"(first: {different[0]}, {theirs.get(different[0])} in the file, "
            f"{ours.get(different[0])} here)"
        )
    return None


def copy_of(model: torch.nn.Module) -> torch.nn.Module:
    """An independent copy for evaluation: no parameter of it takes gradients."""
    with quiet_mace():
        twin = copy.deepcopy(model)
    for parameter in twin.parameters():
        parameter.requires_grad_(False)
    return twin


def read_normalisation(model: MaceModel) -> NormalisationConstants:
    """The statistics a model computes with."""
    return NormalisationConstants(
        atomic_energies=atomic_energies(model),
        scale=float(model.scale_shift.scale),
        shift=float(model.scale_shift.shift),
        avg_num_neighbors=float(model.interactions[0].avg_num_neighbors),
    )


def write_normalisation(model: MaceModel, statistics: NormalisationConstants) -> None:
    """Give a model in the form that is run other statistics; its weights stay."""
    keep_atomic_energies_beside(model, statistics.atomic_energies)
    with torch.no_grad():
        model.scale_shift.scale.fill_(statistics.scale)
        model.scale_shift.shift.fill_(statistics.shift)
    # A plain attribute of each interaction block: the state dict does not hold it.
    for interaction in model.interactions:
        interaction.avg_num_neighbors = statistics.avg_num_neighbors


def export_model(model: torch.nn.Module, path: Path) -> None:
    """Write a model as MACE writes its own, for MACE's calculator on any device.

    Atomic: `path` is either the old file or the whole new one.
    """
    whole = to_mace_model(model)
    for parameter in whole.parameters():
        parameter.requires_grad_(True)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file, quiet_mace():
        torch.save(whole, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_exported(path: Path) -> MaceModel:
    """A model that MACE or :func:`export_model` wrote.

    Such a file is a pickle and runs code when read: only read files that you trust.

    Raises
    ------
    ValueError
        If the file cannot be read as a MACE model.
    """
    try:
        with quiet_mace():
            model = torch.load(path, map_location="cpu", weights_only=False)
        read_normalisation(model)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"{path}: not a MACE model that this installation can read "
            f"({type(error).__name__}: {error}). Expected a .model file written with the same "
            "e3nn version."
        ) from error
    return model
