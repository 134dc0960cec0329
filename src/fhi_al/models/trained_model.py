"""A model in training with its optimisation: weights in, weights out.

Knows nothing of labels, members or files.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from fhi_al.models.mace.model import (
    ModelFactory,
    NormalisationConstants,
    model_misfit,
    read_normalisation,
    write_normalisation,
)
from fhi_al.models.optimisation import Optimisation
from fhi_al.models.state_bytes import copied


class TrainedModel:
    """One model and what moves its weights.

    Parameters
    ----------
    factory : ModelFactory
    seed : int or None
        Of the initial weights; None if others are loaded next.

    Attributes
    ----------
    module : torch.nn.Module
        With the raw weights.
    optimisation : Optimisation
    """

    def __init__(self, factory: ModelFactory, seed: int | None) -> None:
        self._factory = factory
        self.module = factory.model(seed)
        self.optimisation = Optimisation(factory, self.module)

    def is_finite(self) -> bool:
        """True if no weight, raw or averaged, is NaN or infinite."""
        average = self.optimisation.average
        tensors = [*self.module.parameters(), *([] if average is None else average.shadow_params)]
        return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)

    def weights(self) -> dict[str, Any]:
        """A copy of weights, moving average and statistics for :meth:`set_weights`."""
        return copied(
            {
                "model": dict(self.module.state_dict()),
                "average": self.optimisation.average_state(),
                "statistics": asdict(read_normalisation(self.module)),
            }
        )

    def set_weights(self, weights: dict[str, Any]) -> None:
        """Put back what :meth:`weights` gave."""
        self._load(weights)
        self.optimisation.load_average(weights["average"])

    def adopt(self, other: torch.nn.Module, source: str) -> None:
        """See :meth:`fhi_al.models.member.Member.adopt`."""
        other = self._factory.to_runtime_model(other)
        misfit = model_misfit(other, self._factory, self.module)
        if misfit is not None:
            raise ValueError(f"{source}: {misfit}. Use the settings the model was trained with.")
        self.module.load_state_dict(other.state_dict())
        write_normalisation(self.module, read_normalisation(other))
        self.optimisation.restart(scheduler=False)
        self.optimisation.restart_average()

    def state(self) -> dict[str, Any]:
        """A copy of everything that the next step depends on."""
        return copied(
            {
                "model": dict(self.module.state_dict()),
                "statistics": asdict(read_normalisation(self.module)),
                "optimisation": self.optimisation.state(),
            }
        )

    def load_state(self, state: dict[str, Any]) -> None:
        """Put a state back."""
        self._load(state)
        self.optimisation.load_state(state["optimisation"])

    def _load(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state["model"])
        write_normalisation(self.module, NormalisationConstants(**state["statistics"]))
