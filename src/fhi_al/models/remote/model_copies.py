"""Models that only predict, in a precision of their own, with weights that come from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from fhi_al.models.ensemble import Ensemble
from fhi_al.models.mace.model import (
    ModelFactory,
    NormalisationConstants,
    copy_of,
    read_normalisation,
    write_normalisation,
)
from fhi_al.models.member import Member
from fhi_al.models.predictor import LocalPredictor
from fhi_al.models.state_bytes import as_arrays, as_tensors


class ModelCopies:
    """A model for each member, built when its first weights arrive.

    Parameters
    ----------
    factory : ModelFactory
    dtype : torch.dtype
    """

    def __init__(self, factory: ModelFactory, dtype: torch.dtype) -> None:
        self._factory = factory
        self._models: dict[int, torch.nn.Module] = {}
        self.dtype = dtype

    def __call__(self, member: int) -> torch.nn.Module:
        """The model of a member whose weights have been loaded."""
        return self._models[member]

    def load(self, member: int, weights: dict[str, Any]) -> None:
        """Give a member's model the weights of :func:`weights_of`."""
        if member not in self._models:
            self._models[member] = copy_of(self._factory.model(None)).to(self.dtype)
        model = self._models[member]
        model.load_state_dict(as_tensors(weights["model"]))
        write_normalisation(model, NormalisationConstants(**weights["statistics"]))


def weights_of(model: torch.nn.Module) -> dict[str, Any]:
    """All that another model of the same architecture needs to predict the same, as arrays."""
    return {
        "model": as_arrays(dict(model.state_dict())),
        "statistics": asdict(read_normalisation(model)),
    }


class _UpToDate:
    """The members' models in another precision, brought up to date when they are asked for.

    Parameters
    ----------
    members : sequence of Member
    factory : ModelFactory
    dtype : torch.dtype
    """

    def __init__(
        self, members: Sequence[Member], factory: ModelFactory, dtype: torch.dtype
    ) -> None:
        self._members = members
        self._copies = ModelCopies(factory, dtype)
        self._versions: dict[int, int] = {}

    def __call__(self, member: int) -> torch.nn.Module:
        """The model of a member with the weights that validation uses."""
        version = self._members[member].version
        if self._versions.get(member) != version:
            self._copies.load(member, weights_of(self._members[member].inference_model))
            self._versions[member] = version
        return self._copies(member)


def predictor_of(ensemble: Ensemble, dtype: str) -> LocalPredictor:
    """Predicts with an ensemble's members in a precision of its own, a name of torch."""
    precision: torch.dtype = getattr(torch, dtype)
    models = _UpToDate(ensemble.members, ensemble.factory, precision)
    return LocalPredictor(ensemble.factory, models, precision, len(ensemble), ensemble)
