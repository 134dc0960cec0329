"""MACE's losses."""

from __future__ import annotations

import argparse
import copy

import torch
from mace.tools import torch_geometric
from mace.tools.scripts_utils import get_loss_fn

from fhi_al.models.default_dtype import default_dtype
from fhi_al.models.loss import LossWeights, Share, Tensors
from fhi_al.settings.mace_choices import STRESS_LOSSES

_REFERENCE = ("ptr", "energy", "forces", "weight", "energy_weight", "forces_weight")
# Of the terms that are a mean over the structures; that of the forces is one over the atoms.
_OF_STRUCTURES = ("energy_weight", "stress_weight", "virials_weight")


class MaceLoss:
    """MACE's loss; see :class:`fhi_al.models.loss.Loss`.

    Parameters
    ----------
    arguments
        MACE's namespace.
    weights : LossWeights
        Instead of those in it.
    dtype, device
        Of the models.
    """

    def __init__(
        self,
        arguments: argparse.Namespace,
        weights: LossWeights,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        arguments = copy.copy(arguments)
        for name, value in vars(weights).items():
            setattr(arguments, f"{name}_weight", value)
        with default_dtype(dtype):
            loss: torch.nn.Module = get_loss_fn(arguments, dipole_only=False, compute_dipole=False)
        self._loss = loss.to(device)
        self._with_stress = arguments.loss in STRESS_LOSSES
        # Some or all terms of MACE's own look at no weight of a structure there.
        self._ignores_weights = arguments.loss in ("huber", "universal", "l1l2energyforces")

    def __call__(
        self,
        output: Tensors,
        reference: Tensors,
        energy_share: Share = 1.0,
        forces_share: Share = 1.0,
    ) -> torch.Tensor:
        """See :class:`fhi_al.models.loss.Loss`."""
        loss = self._loss
        if (energy_share, forces_share) != (1.0, 1.0):
            loss = copy.deepcopy(loss)
            shares = dict.fromkeys(_OF_STRUCTURES, energy_share) | {"forces_weight": forces_share}
            for name, share in shares.items():
                if hasattr(loss, name):
                    getattr(loss, name).mul_(share)
        compared = {name: reference[name] for name in _REFERENCE}
        if self._with_stress:
            stress, virials = _with_virials(output, reference)
            output = {**output, **stress}
            compared |= virials
        if self._ignores_weights:
            output = _without_weightless(output, compared)
        value: torch.Tensor = loss(pred=output, ref=torch_geometric.Batch(**compared))
        return value


def _with_virials(
    output: Tensors, reference: Tensors
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Stress and virials as predicted and as wanted; equal where there is nothing to compare."""
    weight = reference["stress_weight"]
    # MACE's loss "huber" does not look at it: labels without a stress must have no error there.
    has_stress = (weight > 0).view(-1, 1, 1)
    predicted = torch.where(has_stress, output["stress"], reference["stress"])
    volume = reference["volume"].view(-1, 1, 1)
    return (
        {"stress": predicted, "virials": -volume * predicted},
        {
            "stress": reference["stress"],
            "virials": -volume * reference["stress"],
            "stress_weight": weight,
            "virials_weight": weight,
        },
    )


def _without_weightless(output: Tensors, reference: Tensors) -> dict[str, torch.Tensor]:
    """The predictions, with no error for structures of weight zero."""
    counts = reference["weight"] > 0
    of_atoms = torch.repeat_interleave(counts, reference["ptr"].diff())
    masks = {
        "energy": counts,
        "forces": of_atoms.unsqueeze(1),
        "stress": counts.view(-1, 1, 1),
    }
    masked = {
        name: torch.where(mask, output[name], reference[name])
        for name, mask in masks.items()
        if name in reference
    }
    return {**output, **masked}
