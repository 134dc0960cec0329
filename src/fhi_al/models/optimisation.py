"""How a member's weights move: optimizer, learning-rate scheduler, moving average.

Owns the state of these three, and which stage of the training they are at; knows nothing of
labels, losses, members or files.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    replayed : bool
        Steps will be recorded and replayed: the optimizer counts them on the device.

    Attributes
    ----------
    second_stage : bool
        The learning rate is ``swa_lr``, and the loss is to be that of the second stage.
    replacements : int
        Goes up whenever tensors that a step reads and writes are replaced by others.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        training: Any,
        options: Callable[[], dict[str, Any]],
        replayed: bool = False,
    ) -> None:
        self._module = module
        self._training = training
        self._options = options
        self._device = next(module.parameters()).device
        self._capturable = replayed
        self._rates: list[torch.Tensor] = []
        self._share = next(module.parameters()).detach().new_zeros(())
        self.replacements = 0
        self.restart_average()
        self.restart(scheduler=False)

    def restart(self, scheduler: bool) -> None:
        """Forget the optimizer's history, with or without a scheduler from here on; first stage.

        The moving average stays: what MD and validation use does not jump because the optimizer
        starts anew.
        """
        kind = torch.optim.AdamW if self._training.optimizer == "adamw" else torch.optim.Adam
        self.optimizer: torch.optim.Optimizer = kind(**self._options(), capturable=self._capturable)
        self.replacements += 1
        self.scheduler = self._new_scheduler() if scheduler else None
        self._epochs_unseen = 0
        self.second_stage = False

    @property
    def learning_rate(self) -> float:
        """Of the weights that are trained: MACE gives those that are frozen a rate of zero."""
        groups = self.optimizer.param_groups
        trained = (one for one in groups if any(each.requires_grad for each in one["params"]))
        return float(next(trained, groups[0])["lr"])

    def begin_second_stage(self) -> None:
        """See :meth:`fhi_al.models.interface.TrainableModel.begin_second_stage`."""
        if self.average is not None:
            self.average.copy_to(self._trained())
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
            ExponentialMovingAverage(self._trained(), decay=float(self._training.ema_decay))
            if self._training.ema
            else None
        )
        self.replacements += 1

    def _trained(self) -> list[torch.nn.Parameter]:
        """The parameters that take gradients."""
        return [each for each in self._module.parameters() if each.requires_grad]

    def step(self) -> None:
        """Move the weights by their gradients, whose norm is limited, and average them."""
        self._limit_gradients()
        self.optimizer.step()
        if self.average is not None:
            self.average.update()

    def _limit_gradients(self) -> None:
        if self._training.clip_grad is not None:
            torch.nn.utils.clip_grad_norm_(
                self._module.parameters(), max_norm=float(self._training.clip_grad)
            )

    def begin_recorded_step(self) -> None:
        """Bring to the device what differs from step to step: learning rates, share of the average.

        Before each :meth:`recorded_step`, recorded or not.
        """
        groups = self.optimizer.param_groups
        if len(self._rates) != len(groups):
            self._rates = [torch.zeros_like(self._share) for _ in groups]
        for rate, group in zip(self._rates, groups, strict=True):
            rate.fill_(float(group["lr"]))
        if self.average is not None:
            self._share.fill_(1.0 - self._next_decay(self.average))

    def recorded_step(self) -> None:
        """As :meth:`step`, by what is on the device, and without waiting for it."""
        self._limit_gradients()
        with self._rates_on_the_device():
            self.optimizer.step()
        if self.average is not None:
            parameters: list[torch.Tensor] = list(self._trained())
            with torch.no_grad():
                # torch_ema's own operations, with a number that may change between replays.
                shadow = self.average.shadow_params
                distances = torch._foreach_sub(shadow, parameters)
                torch._foreach_mul_(distances, self._share)
                torch._foreach_sub_(shadow, distances)

    def end_recorded_step(self) -> None:
        """Count the step; after each :meth:`recorded_step`, recorded or not."""
        if self.average is not None and self.average.num_updates is not None:
            self.average.num_updates += 1

    @staticmethod
    def _next_decay(average: ExponentialMovingAverage) -> float:
        """Of the next step, as torch_ema has it: smaller in the first ones."""
        if average.num_updates is None:
            return float(average.decay)
        n_updates = average.num_updates + 1
        return min(average.decay, (1 + n_updates) / (10 + n_updates))

    @contextmanager
    def _rates_on_the_device(self) -> Iterator[None]:
        """Learning rates as tensors, which a recording reads anew; schedulers see numbers."""
        groups = self.optimizer.param_groups
        before = [group["lr"] for group in groups]
        try:
            for group, rate in zip(groups, self._rates, strict=True):
                group["lr"] = rate
            yield
        finally:
            for group, number in zip(groups, before, strict=True):
                group["lr"] = number

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
            self.replacements += 1

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
        self._count_steps_where_they_are_needed(state["optimizer"])
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

    def _count_steps_where_they_are_needed(self, saved: dict[str, Any]) -> None:
        """Of a state from another device, or from before the key was changed."""
        counts = [one["step"] for one in saved["state"].values() if "step" in one]
        for group in self.optimizer.param_groups:
            group["capturable"] = self._capturable
            for parameter in group["params"]:
                state = self.optimizer.state.get(parameter, {})
                if "step" in state and self._capturable:
                    # Torch loads it in float32, though it is counted in the default dtype: the
                    # steps after it would differ in their last bits.
                    state["step"] = state["step"].to(self._device, counts[0].dtype)
                elif "step" in state:
                    state["step"] = state["step"].cpu()
