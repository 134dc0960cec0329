"""The losses of ``TRAINING.loss`` for backends that have none of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch

Tensors = Mapping[str, torch.Tensor]


class Loss(Protocol):
    """A mean over the structures of energy errors plus one over the atoms of force errors."""

    def __call__(
        self,
        output: Tensors,
        reference: Tensors,
        energy_share: float = 1.0,
        forces_share: float = 1.0,
    ) -> torch.Tensor:
        """The loss of a batch.

        Parameters
        ----------
        output
            ``energy`` (n_structures,) in eV, relative to the sum of the E0s, and ``forces``
            (n_atoms of all, 3) in eV/A.
        reference
            The same, ``weight``, ``energy_weight`` and ``forces_weight`` (n_structures,), and
            ``ptr``: see :func:`fhi_al.models.batches.reference_tensors`.
        energy_share, forces_share
            Of a part of a batch: its structures and its atoms over those of the whole.  The losses
            of all parts then add up to that of the whole.
        """
        ...


class EnergyForcesLoss:
    """``weighted`` (squared errors), ``forces_only`` or ``l1l2energyforces`` (absolute errors).

    Parameters
    ----------
    kind : str
        ``TRAINING.loss``.
    energy_weight, forces_weight : float

    Raises
    ------
    ValueError
        If there is no such loss.
    """

    def __init__(self, kind: str, energy_weight: float, forces_weight: float) -> None:
        self._kind = kind
        if self._kind not in ("weighted", "forces_only", "l1l2energyforces"):
            raise ValueError(f"mace_settings.yaml: TRAINING.loss = {self._kind}: not supported.")
        self._energy_weight = 0.0 if kind == "forces_only" else energy_weight
        self._forces_weight = forces_weight

    def __call__(
        self,
        output: Tensors,
        reference: Tensors,
        energy_share: float = 1.0,
        forces_share: float = 1.0,
    ) -> torch.Tensor:
        """See :class:`Loss`."""
        n_atoms = reference["ptr"].diff()
        weight = reference["weight"]
        of_energies = weight * reference["energy_weight"]
        of_forces = torch.repeat_interleave(weight * reference["forces_weight"], n_atoms)
        energies = (output["energy"] - reference["energy"]) / n_atoms
        forces = output["forces"] - reference["forces"]
        if self._kind == "l1l2energyforces":
            energy_loss = (of_energies * energies.abs()).mean()
            forces_loss = (of_forces * torch.linalg.vector_norm(forces, dim=1)).mean()
        else:
            energy_loss = (of_energies * energies**2).mean()
            forces_loss = (of_forces.unsqueeze(1) * forces**2).mean()
        energy_factor = self._energy_weight * energy_share
        forces_factor = self._forces_weight * forces_share
        return energy_factor * energy_loss + forces_factor * forces_loss
