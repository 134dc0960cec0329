"""Models that only predict, in a precision of their own, with weights that come from elsewhere."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from fhi_al.models.mace_adapter.model import (
    ModelFactory,
    Statistics,
    copy_of,
    read_statistics,
    write_statistics,
)
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
        write_statistics(model, Statistics(**weights["statistics"]))


def weights_of(model: torch.nn.Module) -> dict[str, Any]:
    """All that another model of the same architecture needs to predict the same, as arrays."""
    return {
        "model": as_arrays(dict(model.state_dict())),
        "statistics": asdict(read_statistics(model)),
    }
