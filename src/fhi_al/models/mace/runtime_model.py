"""The form in which a model is trained and run, and MACE's own, in which it is saved.

MACE adds the E0s to every energy in the precision of the weights.  Of all-electron energies
float32 keeps nothing (at 58 MeV, 108 gold atoms, it counts in steps of 4 eV), so the form that is
run has E0s of zero, and whoever runs it adds their sum in float64.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from mace.tools.scripts_utils import remove_pt_head

from fhi_al.models.default_dtype import default_dtype
from fhi_al.models.mace import quiet_mace
from fhi_al.models.mace.contraction import with_polynomials, without_polynomials

# The only switch of the contraction of our own, which repeats MACE's internals
# (docs/developer/upstream.md): with False models are trained and run with MACE's modules alone.
OWN_CONTRACTION = True


def to_runtime_model(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """A model as MACE builds and saves it in the form that is trained and run here."""
    if OWN_CONTRACTION and device.type == "cpu":  # measured on CPUs only
        model = with_polynomials(model)
    remove_atomic_energies(model)
    return model


def remove_atomic_energies(model: Any) -> None:
    """Let a model give energies relative to the sum of the E0s."""
    model.atomic_energies_fn.atomic_energies.zero_()


def to_mace_model(
    model: torch.nn.Module, atomic_energies: Sequence[float], head: str | None = None
) -> torch.nn.Module:
    """The same model as MACE saves it, on the CPU and in float64; the given one stays as it is.

    In float64 whatever it was trained in, because MACE adds up E0s and the rest in the precision
    of the model.

    Parameters
    ----------
    model
        In the form that is run.
    atomic_energies : (n_elements,)
        Its E0s in eV, in the order of its atomic numbers.
    head : str, optional
        The one that is kept of a model that has several.
    """
    with quiet_mace():
        twin: Any = copy.deepcopy(model).to("cpu")
    twin = without_polynomials(twin).double()
    energies = twin.atomic_energies_fn.atomic_energies
    energies.copy_(torch.tensor(atomic_energies, dtype=torch.float64).expand_as(energies))
    if len(twin.heads) > 1:
        with quiet_mace(), default_dtype(torch.float64):
            twin = remove_pt_head(twin, head)
    for parameter in twin.parameters():
        parameter.requires_grad_(True)
    whole: torch.nn.Module = twin
    return whole
