"""The form in which a model is trained and run, and MACE's own, in which it is saved."""

from __future__ import annotations

import copy

import torch

from fhi_al.models.mace import quiet_mace
from fhi_al.models.mace.contraction import with_polynomials, without_polynomials
from fhi_al.models.mace.cuequivariance import accelerated, without_cuequivariance


def to_runtime_model(
    model: torch.nn.Module, device: torch.device, cuequivariance: bool
) -> torch.nn.Module:
    """A model as MACE builds and saves it in the form that is trained and run here.

    Raises
    ------
    ValueError
        If that needs cuEquivariance and it is not there.
    """
    if cuequivariance:
        return accelerated(model, device)
    # Measured on CPUs only.
    return with_polynomials(model) if device.type == "cpu" else model


def to_mace_model(model: torch.nn.Module) -> torch.nn.Module:
    """The same model as MACE saves it, on the CPU; the given one stays as it is."""
    with quiet_mace():
        twin = copy.deepcopy(model).to("cpu")
    return without_cuequivariance(without_polynomials(twin))
