"""MACE's loss, optimizer, learning-rate scheduler, EMA, training step and evaluation."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from mace.tools.scripts_utils import LRScheduler, get_loss_fn, get_optimizer, get_params_options
from mace.tools.train import evaluate, take_step
from torch_ema import ExponentialMovingAverage

from fhi_al.models.mace_adapter import default_dtype
from fhi_al.models.mace_adapter.model import ModelFactory


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
        MACE's loss.  It depends on the batch size: report it, never decide on it.
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
    batches: Iterable[Any],
) -> Generator[None, None, float]:
    """One optimizer step for each batch, with a pause after each.

    Returns
    -------
    float
        The mean loss per structure; NaN if training blew up.
    """
    total, n_structures = 0.0, 0
    clip = factory.settings.training.clip_grad
    waiting = iter(batches)
    while True:
        # Not around the whole loop: what runs in a pause must not find our default dtype.
        with default_dtype(factory.dtype):
            batch = next(waiting, None)
            if batch is None:
                return total / n_structures if n_structures else math.nan
            step: Any = take_step(
                model=model,
                loss_fn=loss,
                batch=batch,
                optimizer=optimizer,
                ema=average,
                output_args=factory.output_args,
                max_grad_norm=None if clip is None else float(clip),
                device=factory.device,
            )
            total += float(step[0].detach()) * int(batch.num_graphs)
            n_structures += int(batch.num_graphs)
        yield


def errors(
    factory: ModelFactory, model: torch.nn.Module, loss: torch.nn.Module, batches: Sequence[Any]
) -> ForceErrors:
    """Errors of a model on the labels in `batches`."""
    with default_dtype(factory.dtype):
        value, found = evaluate(
            model=model,
            loss_fn=loss,
            data_loader=cast(Any, batches),  # it is only iterated over
            output_args=factory.output_args,
            device=factory.device,
        )
    names = ("mae_f", "rmse_f", "mae_e_per_atom", "rmse_e_per_atom")
    # Missing where every label has weight zero.
    mae_f, rmse_f, mae_e, rmse_e = (float(found.get(name, math.nan)) for name in names)
    return ForceErrors(mae_f, rmse_f, mae_e, rmse_e, float(value))
