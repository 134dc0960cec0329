"""MACE's loss, optimizer, learning-rate scheduler, EMA, a pass over the training set and errors."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mace.tools.scripts_utils import LRScheduler, get_loss_fn, get_optimizer, get_params_options
from mace.tools.train import MACELoss
from torch_ema import ExponentialMovingAverage

from fhi_al.core.structure import Array
from fhi_al.models.mace import default_dtype
from fhi_al.models.mace.data import StoredGraph, reference_batch
from fhi_al.models.mace.model import ModelFactory
from fhi_al.models.mace.prediction import energies_and_forces, model_input
from fhi_al.models.mace.runtime_model import atomic_energies
from fhi_al.models.mace.training_step import TrainingStep
from fhi_al.models.out_of_memory import in_halves


@dataclass(frozen=True)
class ForceErrors:
    """Errors of one model on one set.

    Parameters
    ----------
    mae_forces, rmse_forces : float
        Over all force components, in eV/A.
    mae_energy_per_atom, rmse_energy_per_atom : float
        In eV.
    loss : float
        MACE's loss of the set as if it were one batch.
    """

    mae_forces: float
    rmse_forces: float
    mae_energy_per_atom: float
    rmse_energy_per_atom: float
    loss: float


def loss_function(factory: ModelFactory) -> torch.nn.Module:
    """MACE's loss with the weights of the settings."""
    with default_dtype(factory.dtype):
        loss: torch.nn.Module = get_loss_fn(
            factory.arguments, dipole_only=False, compute_dipole=False
        )
    return loss.to(factory.device)


def new_optimizer(factory: ModelFactory, model: torch.nn.Module) -> torch.optim.Optimizer:
    """MACE's optimizer with MACE's parameter groups, without any history."""
    optimizer: torch.optim.Optimizer = get_optimizer(
        factory.arguments, get_params_options(factory.arguments, model)
    )
    return optimizer


def new_scheduler(factory: ModelFactory, optimizer: torch.optim.Optimizer) -> Any:
    """MACE's learning-rate scheduler over `optimizer`."""
    return LRScheduler(optimizer, factory.arguments)


def new_average(factory: ModelFactory, model: torch.nn.Module) -> ExponentialMovingAverage | None:
    """The exponential moving average of the weights, or None where ``ema`` is off."""
    training = factory.settings.training
    if not training.ema:
        return None
    return ExponentialMovingAverage(model.parameters(), decay=float(training.ema_decay))


def train_one_pass(
    factory: ModelFactory,
    model: torch.nn.Module,
    loss: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    average: ExponentialMovingAverage | None,
    groups: Iterable[Sequence[StoredGraph]],
) -> Generator[None, None, float]:
    """One optimizer step for each group of structures, with a pause after each.

    Returns
    -------
    float
        The mean loss per structure; NaN if training blew up.

    Raises
    ------
    TooLarge
        If not even one structure fits into memory.
    """
    total, n_structures = 0.0, 0
    step = TrainingStep(factory, model, loss, optimizer, average)
    for group in groups:
        # Not around the whole loop: what runs in a pause must not find our default dtype.
        with default_dtype(factory.dtype):
            total += step.take(group) * len(group)
        n_structures += len(group)
        yield
    return total / n_structures if n_structures else math.nan


def errors(
    factory: ModelFactory,
    model: torch.nn.Module,
    loss: torch.nn.Module,
    groups: Sequence[Sequence[StoredGraph]],
) -> ForceErrors:
    """Errors of a model on labels, predicted a group at a time.

    How they are grouped changes the last bits only.

    Raises
    ------
    TooLarge
        If not even one structure fits into memory.
    """

    def predicted(graphs: Sequence[StoredGraph]) -> list[tuple[Array, Array]]:
        inputs = model_input([graph.whole() for graph in graphs], factory, factory.dtype)
        return [energies_and_forces(model, inputs, factory.dtype)]

    found = [answer for group in groups for answer in in_halves(group, predicted)]
    output = {
        name: torch.as_tensor(np.concatenate(values), dtype=factory.dtype).to(factory.device)
        for name, values in zip(("energy", "forces"), zip(*found, strict=True), strict=True)
    }
    with default_dtype(factory.dtype):
        metrics: Any = MACELoss(loss_fn=loss).to(factory.device)
        metrics.update(
            reference_batch(
                [graph for group in groups for graph in group], factory, atomic_energies(model)
            ),
            output,
        )
        value = float(metrics.total_loss)
        _, named = metrics.compute()
    names = ("mae_f", "rmse_f", "mae_e_per_atom", "rmse_e_per_atom")
    # Missing where every label has weight zero.
    mae_f, rmse_f, mae_e, rmse_e = (float(named.get(name, math.nan)) for name in names)
    return ForceErrors(mae_f, rmse_f, mae_e, rmse_e, value)
