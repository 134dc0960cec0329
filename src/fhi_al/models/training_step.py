"""One optimizer step on a batch, in parts if the memory does not suffice for all of it at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch

from fhi_al.models.optimisation import Optimisation
from fhi_al.models.out_of_memory import TooLarge, in_halves, is_out_of_memory

log = logging.getLogger(__name__)

Gradients = tuple[torch.Tensor | None, ...]


class TrainingStep:
    """Takes steps of one model.

    Parameters
    ----------
    module
        What is trained.
    optimisation : Optimisation
        Of its weights.
    loss : callable
        (samples, share of the structures, share of the atoms) -> loss of these samples, of which
        gradients are taken; the shares are those of :class:`fhi_al.models.loss.Loss`.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        optimisation: Optimisation,
        loss: Callable[[Sequence[Any], float, float], torch.Tensor],
    ) -> None:
        self._module = module
        self._optimisation = optimisation
        self._loss = loss
        self._said = False

    def take(self, samples: Sequence[Any]) -> float:
        """One step; returns the mean loss of the structures.

        Raises
        ------
        TooLarge
            If not even one structure fits into memory, or the optimizer's history does not.
        """
        begun: list[bool] = []
        optimizer = self._optimisation.optimizer
        hook = optimizer.register_step_pre_hook(lambda *_: begun.append(True))
        try:
            optimizer.zero_grad(set_to_none=True)
            loss = self._loss(samples, 1.0, 1.0)
            loss.backward()
            self._optimisation.step()
            return float(loss.detach())
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if begun:  # some of the weights may have moved
                raise TooLarge(
                    f"the optimizer's history does not fit into memory ({error}). Expected room "
                    "for three times the weights: use fewer channels (mace_settings.yaml), fewer "
                    "ranks on this host, or a device with more memory."
                ) from error
        finally:
            hook.remove()
        # Outside the except clause: the error holds the tensors of the attempt.
        return self._in_parts(samples)

    def _in_parts(self, samples: Sequence[Any]) -> float:
        """The same step up to rounding: the gradients of the parts add up to that of the whole."""
        if not self._said:
            log.warning(
                "%d structures at once do not fit into memory: the gradients are computed in "
                "parts. A smaller TRAINING.batch_size saves the vain attempts",
                len(samples),
            )
            self._said = True
        n_atoms = sum(sample.n_atoms for sample in samples)
        parameters = [each for each in self._module.parameters() if each.requires_grad]

        def gradients(some: Sequence[Any]) -> list[tuple[float, Gradients]]:
            of_atoms = sum(sample.n_atoms for sample in some) / n_atoms
            value = self._loss(some, len(some) / len(samples), of_atoms)
            # Not backward(): what it had added up before it failed would stay.
            found = torch.autograd.grad(value, parameters, allow_unused=True)
            return [(float(value.detach()), found)]

        self._optimisation.optimizer.zero_grad(set_to_none=True)
        found = in_halves(samples, gradients)
        for place, parameter in enumerate(parameters):
            given = [gradients[place] for _, gradients in found]
            known = [gradient for gradient in given if gradient is not None]
            parameter.grad = torch.stack(known).sum(0) if known else None
        self._optimisation.step()
        return sum(value for value, _ in found)
