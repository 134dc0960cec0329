"""MACE's losses."""

from __future__ import annotations

import argparse
import copy

import torch
from mace.tools import torch_geometric
from mace.tools.scripts_utils import get_loss_fn

from fhi_al.models.default_dtype import default_dtype
from fhi_al.models.loss import Tensors

_REFERENCE = ("ptr", "energy", "forces", "weight", "energy_weight", "forces_weight")


class MaceLoss:
    """MACE's loss; see :class:`fhi_al.models.loss.Loss`.

    Parameters
    ----------
    arguments
        MACE's namespace, with ``energy_weight`` and ``forces_weight``.
    dtype, device
        Of the models.
    """

    def __init__(
        self, arguments: argparse.Namespace, dtype: torch.dtype, device: torch.device
    ) -> None:
        with default_dtype(dtype):
            loss: torch.nn.Module = get_loss_fn(arguments, dipole_only=False, compute_dipole=False)
        self._loss = loss.to(device)

    def __call__(
        self,
        output: Tensors,
        reference: Tensors,
        energy_share: float = 1.0,
        forces_share: float = 1.0,
    ) -> torch.Tensor:
        """See :class:`fhi_al.models.loss.Loss`."""
        loss = self._loss
        if (energy_share, forces_share) != (1.0, 1.0):
            # MACE's losses are a mean over the structures (energies) plus one over the atoms.
            loss = copy.deepcopy(loss)
            for name, share in (("energy_weight", energy_share), ("forces_weight", forces_share)):
                if hasattr(loss, name):
                    getattr(loss, name).mul_(share)
        compared = torch_geometric.Batch(**{name: reference[name] for name in _REFERENCE})
        value: torch.Tensor = loss(pred=output, ref=compared)
        return value
