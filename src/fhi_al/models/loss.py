"""The losses of ``TRAINING.loss`` for backends that have none of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from fhi_al.settings.mace_choices import STRESS_LOSSES

Tensors = Mapping[str, torch.Tensor]
# A number, or one on the device.
Share = float | torch.Tensor

PLAIN_LOSSES = frozenset({"weighted", "forces_only", "l1l2energyforces"})
# Share of huber_delta for forces of at least so many eV/A (MACE's loss "universal").
_LARGE_FORCES = ((100.0, 0.7), (200.0, 0.4), (300.0, 0.1))


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms of a loss, in one of the two stages."""

    energy: float
    forces: float
    stress: float = 1.0
    virials: float = 1.0

    @classmethod
    def first_stage(cls, training: Any) -> LossWeights:
        """Those of the section TRAINING."""
        names = ("energy", "forces", "stress", "virials")
        return cls(*(float(getattr(training, f"{name}_weight")) for name in names))

    @classmethod
    def second_stage(cls, training: Any) -> LossWeights:
        """Those of ``TRAINING.swa_...``."""
        names = ("energy", "forces", "stress", "virials")
        return cls(*(float(getattr(training, f"swa_{name}_weight")) for name in names))


class Loss(Protocol):
    """A mean over the structures of energy and stress errors plus one over the atoms of forces'."""

    def __call__(
        self,
        output: Tensors,
        reference: Tensors,
        energy_share: Share = 1.0,
        forces_share: Share = 1.0,
    ) -> torch.Tensor:
        """The loss of a batch.

        Parameters
        ----------
        output
            ``energy`` (n_structures,) in eV, relative to the sum of the E0s, ``forces`` (n_atoms of
            all, 3) in eV/A and, with a loss of the stress, ``stress`` (n_structures, 3, 3) in
            eV/A^3.
        reference
            The same, ``weight``, ``energy_weight``, ``forces_weight``, ``stress_weight`` and
            ``volume`` (n_structures,), and ``ptr``: see
            :func:`fhi_al.models.batches.reference_tensors`.
        energy_share, forces_share
            Of a part of a batch: its structures and its atoms over those of the whole.  The losses
            of all parts then add up to that of the whole.  Of a padded batch: its structures and
            atoms over those that count, see :func:`fhi_al.models.padding.padded`.
        """
        ...


class EnergyForcesLoss:
    """Any loss of ``TRAINING.loss``: errors of energies, forces and perhaps the stress.

    ``weighted`` (squared errors), ``forces_only``, ``l1l2energyforces`` (absolute errors),
    ``stress``, ``virials`` (squared, with those of the stress or of volume x stress by atom),
    ``huber``, ``universal`` (quadratic up to ``huber_delta``, linear from there on).

    Parameters
    ----------
    kind : str
        ``TRAINING.loss``.
    weights : LossWeights
    huber_delta : float
        In eV, eV/A and eV/A^3.

    Raises
    ------
    ValueError
        If there is no such loss.
    """

    def __init__(self, kind: str, weights: LossWeights, huber_delta: float = 0.01) -> None:
        if kind not in PLAIN_LOSSES | STRESS_LOSSES:
            raise ValueError(f"mace_settings.yaml: TRAINING.loss = {kind}: not supported.")
        self._kind = kind
        self._weights = weights
        self._delta = huber_delta

    def __call__(
        self,
        output: Tensors,
        reference: Tensors,
        energy_share: Share = 1.0,
        forces_share: Share = 1.0,
    ) -> torch.Tensor:
        """See :class:`Loss`."""
        n_atoms = reference["ptr"].diff()
        energies = (output["energy"] - reference["energy"]) / n_atoms
        forces = output["forces"] - reference["forces"]
        if self._kind in ("huber", "universal"):
            # As in MACE: a structure's weight matters only if it is zero.
            weight = (reference["weight"] > 0).to(energies)
        else:
            weight = reference["weight"]
        of_energies = weight * reference["energy_weight"]
        # The size is said: torch would wait for the device to find it.
        of_forces = torch.repeat_interleave(
            weight * reference["forces_weight"], n_atoms, output_size=len(forces)
        )
        loss = self._weights.forces * forces_share * self._forces_loss(forces, of_forces, reference)
        if self._kind != "forces_only":
            terms = of_energies * self._terms(energies)
            loss = self._weights.energy * energy_share * terms.mean() + loss
        if self._kind in STRESS_LOSSES:
            of_stress = weight * reference["stress_weight"]
            loss = loss + energy_share * self._stress_loss(output, reference, of_stress, n_atoms)
        return loss

    def _terms(self, errors: torch.Tensor) -> torch.Tensor:
        if self._kind == "l1l2energyforces":
            return errors.abs()
        return _huber(errors, self._delta) if self._kind in ("huber", "universal") else errors**2

    def _forces_loss(
        self, errors: torch.Tensor, weight: torch.Tensor, reference: Tensors
    ) -> torch.Tensor:
        if self._kind == "l1l2energyforces":
            # As in MACE, which looks at no weight there.
            return ((weight > 0).to(errors) * torch.linalg.vector_norm(errors, dim=1)).mean()
        if self._kind == "universal":
            sizes = torch.linalg.vector_norm(reference["forces"], dim=1, keepdim=True)
            deltas = torch.full_like(sizes, self._delta)
            for size, share in _LARGE_FORCES:
                deltas = torch.where(sizes >= size, share * self._delta, deltas)
            return (weight.unsqueeze(1) * _huber(errors, deltas)).mean()
        return (weight.unsqueeze(1) * self._terms(errors)).mean()

    def _stress_loss(
        self, output: Tensors, reference: Tensors, weight: torch.Tensor, n_atoms: torch.Tensor
    ) -> torch.Tensor:
        errors = output["stress"] - reference["stress"]
        if self._kind == "virials":
            errors = errors * (reference["volume"] / n_atoms).view(-1, 1, 1)
            return self._weights.virials * (weight.view(-1, 1, 1) * errors**2).mean()
        return self._weights.stress * (weight.view(-1, 1, 1) * self._terms(errors)).mean()


def _huber(errors: torch.Tensor, delta: float | torch.Tensor) -> torch.Tensor:
    sizes = errors.abs()
    return torch.where(sizes <= delta, 0.5 * errors**2, delta * (sizes - 0.5 * delta))
