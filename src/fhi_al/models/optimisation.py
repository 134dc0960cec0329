"""How a member's weights move: loss, optimizer, learning-rate scheduler, moving average.

Owns the state of these four; knows nothing of labels, members or files.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Generator, Iterable, Sequence
from typing import Any

import torch

from fhi_al.models.mace.data import StoredGraph
from fhi_al.models.mace.model import ModelFactory
from fhi_al.models.mace.training import (
    loss_function,
    new_average,
    new_optimizer,
    new_scheduler,
    train_one_pass,
)

# Attributes of torch's schedulers: TRAINING.scheduler_patience, lr_factor, lr_scheduler_gamma.
_OF_THE_SETTINGS = frozenset({"patience", "factor", "gamma"})


class Optimisation:
    """Loss, optimizer, scheduler and moving average of one model.

    Parameters
    ----------
    factory : ModelFactory
    model
        The model whose parameters are optimised, in place.
    """

    def __init__(self, factory: ModelFactory, model: torch.nn.Module) -> None:
        self._factory = factory
        self._model = model
        self.loss = loss_function(factory)
        self.average = new_average(factory, model)
        self.restart(scheduler=False)

    def restart(self, scheduler: bool) -> None:
        """Forget the optimizer's history, with or without a scheduler from here on.

        The moving average stays: what MD and validation use does not jump because the optimizer
        starts anew.
        """
        self.optimizer = new_optimizer(self._factory, self._model)
        self.scheduler = new_scheduler(self._factory, self.optimizer) if scheduler else None
        self._epochs_unseen = 0

    def restart_average(self) -> None:
        """Start the moving average again from the weights as they are."""
        self.average = new_average(self._factory, self._model)

    def train_one_pass(
        self, groups: Iterable[Sequence[StoredGraph]]
    ) -> Generator[None, None, float]:
        """One optimizer step for each group of structures, with a pause after each; the mean loss.

        See :func:`fhi_al.models.mace.training.train_one_pass`.
        """
        return train_one_pass(
            self._factory, self._model, self.loss, self.optimizer, self.average, groups
        )

    def scheduler_step(self, mae_forces: float | None) -> None:
        """Count one epoch; see :meth:`fhi_al.models.member.Member.scheduler_step`."""
        self._epochs_unseen += 1
        if self.scheduler is None:
            return
        if self.scheduler.scheduler != "ReduceLROnPlateau":
            self.scheduler.step()
        elif mae_forces is not None:
            # Patience is a number of epochs, as in MACE: an error that has not fallen counts once
            # for every epoch since the validation before.
            for _ in range(self._epochs_unseen):
                self.scheduler.step(metrics=mae_forces)
                if self.scheduler.num_bad_epochs == 0:  # it fell, or the rate has just been cut
                    break
            self._epochs_unseen = 0

    def restart_plateau(self, mae_forces: float) -> None:
        """See :meth:`fhi_al.models.member.Member.restart_plateau`."""
        if self.scheduler is not None and self.scheduler.scheduler == "ReduceLROnPlateau":
            best = mae_forces if math.isfinite(mae_forces) else math.inf
            self.scheduler.lr_scheduler.best = best

    def average_state(self) -> dict[str, Any] | None:
        """The moving average itself, not a copy; None where ``ema`` is off."""
        return None if self.average is None else self.average.state_dict()

    def load_average(self, average: dict[str, Any] | None) -> None:
        """Put a moving average back.

        Raises
        ------
        ValueError
            If ``ema`` was switched since.
        """
        if (average is None) != (self.average is None):
            was = "off" if average is None else "on"
            raise ValueError(
                f"mace_settings.yaml: TRAINING.ema: was {was} when the state was saved. "
                "Put it back, or start in a new folder."
            )
        if self.average is not None:
            self.average.load_state_dict(average)

    def state(self) -> dict[str, Any]:
        """Everything the next step depends on besides the weights; tensors are not copied."""
        scheduler = None if self.scheduler is None else self.scheduler.state_dict()
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": copy.deepcopy(scheduler),
            "epochs_unseen": self._epochs_unseen,
            "average": self.average_state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Put a state back; the weights are loaded by their owner."""
        self.load_average(state["average"])
        self.restart(scheduler=state["scheduler"] is not None)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            # What the settings say now, not then: they may change between two launches.
            stored = state["scheduler"].items()
            self.scheduler.load_state_dict(
                {name: value for name, value in stored if name not in _OF_THE_SETTINGS}
            )
        self._epochs_unseen = state["epochs_unseen"]
