"""How a member's weights move: optimizer, learning-rate scheduler, moving average.

Owns the state of these three, and which stage of the training they are at; knows nothing of
labels, losses, members or files.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.lr_scheduler import ExponentialLR, LRScheduler, ReduceLROnPlateau
from torch_ema import ExponentialMovingAverage

# Attributes of torch's schedulers: TRAINING.scheduler_patience, lr_factor, lr_scheduler_gamma.
_OF_THE_SETTINGS = frozenset({"patience", "factor", "gamma"})


class Optimisation:
    """Optimizer, scheduler and moving average of one model.

    Parameters
    ----------
    module
        The model whose parameters are optimised, in place.
    training
        The section TRAINING of the settings.
    options : callable
        Gives the arguments of torch's Adam: ``params`` (groups of parameters), ``lr``, ...

    Attributes
    ----------
    second_stage : bool
        The learning rate is ``swa_lr``, and the loss is to be that of the second stage.
    """

    def __init__(
        self, module: torch.nn.Module, training: Any, options: Callable[[], dict[str, Any]]
    ) -> None:
        self._module = module
        self._training = training
        self._options = options
        self.restart_average()
        self.restart(scheduler=False)

    def restart(self, scheduler: bool) -> None:
        """Forget the optimizer's history, with or without a scheduler from here on; first stage.

        The moving average stays: what MD and validation use does not jump because the optimizer
        starts anew.
        """
        kind = torch.optim.AdamW if self._training.optimizer == "adamw" else torch.optim.Adam
        self.optimizer: torch.optim.Optimizer = kind(**self._options())
        self.scheduler = self._new_scheduler() if scheduler else None
        self._epochs_unseen = 0
        self.second_stage = False

    def begin_second_stage(self) -> None:
        """See :meth:`fhi_al.models.interface.TrainableModel.begin_second_stage`."""
        if self.average is not None:
            self.average.copy_to(self._module.parameters())
        self.restart_average()
        self.restart(scheduler=False)
        self._set_second_stage()

    def _set_second_stage(self) -> None:
        self.second_stage = True
        for group in self.optimizer.param_groups:
            group["lr"] = float(self._training.swa_lr)

    def _new_scheduler(self) -> LRScheduler:
        training = self._training
        if training.scheduler == "ExponentialLR":
            return ExponentialLR(self.optimizer, gamma=float(training.lr_scheduler_gamma))
        return ReduceLROnPlateau(
            self.optimizer,
            factor=float(training.lr_factor),
            patience=int(training.scheduler_patience),
        )

    def restart_average(self) -> None:
        """Start the moving average again from the weights as they are."""
        self.average = (
            ExponentialMovingAverage(
                self._module.parameters(), decay=float(self._training.ema_decay)
            )
            if self._training.ema
            else None
        )

    def step(self) -> None:
        """Move the weights by their gradients, whose norm is limited, and average them."""
        if self._training.clip_grad is not None:
            torch.nn.utils.clip_grad_norm_(
                self._module.parameters(), max_norm=float(self._training.clip_grad)
            )
        self.optimizer.step()
        if self.average is not None:
            self.average.update()

    def scheduler_step(self, mae_forces: float | None) -> None:
        """Count one epoch; see :meth:`fhi_al.models.member.Member.scheduler_step`."""
        self._epochs_unseen += 1
        if self.scheduler is None:
            return
        if not isinstance(self.scheduler, ReduceLROnPlateau):
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
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.best = mae_forces if math.isfinite(mae_forces) else math.inf

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
            "second_stage": self.second_stage,
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
        # States of an earlier program do not say: it had one stage.  The rate is that of the
        # settings now: it may change between two launches.
        if state.get("second_stage", False):
            self._set_second_stage()
