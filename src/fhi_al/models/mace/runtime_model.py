"""The form in which a model is trained and run, and MACE's own, in which it is saved.

MACE adds the E0s to every energy in the precision of the weights.  Of all-electron energies
float32 keeps nothing (at 58 MeV, 108 gold atoms, it counts in steps of 4 eV), so the form that is
run gives energies relative to the sum of the E0s, which are kept beside it in float64.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from fhi_al.models.mace import quiet_mace
from fhi_al.models.mace.contraction import with_polynomials, without_polynomials
from fhi_al.models.mace.cuequivariance import accelerated, without_cuequivariance

# Of a model in the form that is run: a plain attribute, which no cast of the model reaches.
_ATOMIC_ENERGIES = "atomic_energies_beside"


def atomic_energies(model: Any) -> tuple[float, ...]:
    """E0s of a model in either form, in eV, in the order of its atomic numbers."""
    beside: tuple[float, ...] | None = getattr(model, _ATOMIC_ENERGIES, None)
    if beside is not None:
        return beside
    return tuple(model.atomic_energies_fn.atomic_energies.flatten().tolist())


def keep_atomic_energies_beside(model: Any, energies: Sequence[float]) -> None:
    """Let a model give energies relative to the sum of the E0s, which it remembers."""
    model.atomic_energies_fn.atomic_energies.zero_()
    setattr(model, _ATOMIC_ENERGIES, tuple(float(energy) for energy in energies))


def to_runtime_model(
    model: torch.nn.Module, device: torch.device, cuequivariance: bool
) -> torch.nn.Module:
    """A model as MACE builds and saves it in the form that is trained and run here.

    Raises
    ------
    ValueError
        If that needs cuEquivariance and it is not there.
    """
    energies = atomic_energies(model)
    if cuequivariance:
        model = accelerated(model, device)
    elif device.type == "cpu":  # measured on CPUs only
        model = with_polynomials(model)
    keep_atomic_energies_beside(model, energies)
    return model


def to_mace_model(model: torch.nn.Module) -> torch.nn.Module:
    """The same model as MACE saves it, on the CPU and in float64; the given one stays as it is.

    In float64 whatever it was trained in, because MACE adds up E0s and the rest in the precision
    of the model.
    """
    with quiet_mace():
        twin: Any = copy.deepcopy(model).to("cpu")
    energies = torch.tensor(atomic_energies(model), dtype=torch.float64)
    twin = without_cuequivariance(without_polynomials(twin)).double()
    block = twin.atomic_energies_fn
    block.atomic_energies.copy_(energies.view_as(block.atomic_energies))
    if hasattr(twin, _ATOMIC_ENERGIES):  # a conversion loses it
        delattr(twin, _ATOMIC_ENERGIES)
    whole: torch.nn.Module = twin
    return whole
