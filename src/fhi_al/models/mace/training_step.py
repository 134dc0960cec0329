"""One optimizer step on a batch, in parts if the memory does not suffice for all of it at once."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Any

import torch
from mace.tools.train import take_step
from torch_ema import ExponentialMovingAverage

from fhi_al.models.mace.data import StoredGraph, training_batch
from fhi_al.models.mace.model import ModelFactory
from fhi_al.models.mace.runtime_model import atomic_energies
from fhi_al.models.out_of_memory import TooLarge, in_halves, is_out_of_memory

log = logging.getLogger(__name__)

Gradients = tuple[torch.Tensor | None, ...]


class TrainingStep:
    """Takes steps of one pass over a training set.

    Parameters
    ----------
    factory : ModelFactory
    model, loss, optimizer, average
        What is trained, by what; `average` is None where ``ema`` is off.
    """

    def __init__(
        self,
        factory: ModelFactory,
        model: torch.nn.Module,
        loss: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        average: ExponentialMovingAverage | None,
    ) -> None:
        self._factory = factory
        self._model = model
        self._loss = loss
        self._optimizer = optimizer
        self._average = average
        clip = factory.settings.training.clip_grad
        self._largest_gradient = None if clip is None else float(clip)
        self._said = False

    def take(self, graphs: Sequence[StoredGraph]) -> float:
        """One step; returns the mean loss of the structures.

        Raises
        ------
        TooLarge
            If not even one structure fits into memory, or the optimizer's history does not.
        """
        begun: list[bool] = []
        hook = self._optimizer.register_step_pre_hook(lambda *_: begun.append(True))
        try:
            return self._at_once(graphs)
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
        return self._in_parts(graphs)

    def _batch(self, graphs: Sequence[StoredGraph]) -> Any:
        return training_batch(graphs, self._factory, atomic_energies(self._model))

    def _at_once(self, graphs: Sequence[StoredGraph]) -> float:
        step: Any = take_step(
            model=self._model,
            loss_fn=self._loss,
            batch=self._batch(graphs),
            optimizer=self._optimizer,
            ema=self._average,
            output_args=self._factory.output_args,
            max_grad_norm=self._largest_gradient,
            device=self._factory.device,
        )
        return float(step[0].detach())

    def _in_parts(self, graphs: Sequence[StoredGraph]) -> float:
        """The same step up to rounding: the gradients of the parts add up to that of the whole."""
        if not self._said:
            log.warning(
                "%d structures at once do not fit into memory: the gradients are computed in "
                "parts. A smaller TRAINING.batch_size saves the vain attempts",
                len(graphs),
            )
            self._said = True
        n_atoms = sum(len(graph.elements) for graph in graphs)
        parameters = [each for each in self._model.parameters() if each.requires_grad]

        def act(some: Sequence[StoredGraph]) -> list[tuple[float, Gradients]]:
            loss = _share(
                self._loss,
                len(some) / len(graphs),
                sum(len(graph.elements) for graph in some) / n_atoms,
            )
            batch = self._batch(some)
            wanted = self._factory.output_args
            value = loss(
                pred=self._model(
                    batch.to_dict(),
                    training=True,
                    compute_force=wanted["forces"],
                    compute_virials=wanted["virials"],
                    compute_stress=wanted["stress"],
                ),
                ref=batch,
            )
            # Not backward(): what it had added up before it failed would stay.
            gradients = torch.autograd.grad(value, parameters, allow_unused=True)
            return [(float(value.detach()), gradients)]

        self._optimizer.zero_grad(set_to_none=True)
        found = in_halves(graphs, act)
        for place, parameter in enumerate(parameters):
            given = [gradients[place] for _, gradients in found]
            known = [gradient for gradient in given if gradient is not None]
            parameter.grad = torch.stack(known).sum(0) if known else None
        if self._largest_gradient is not None:
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._largest_gradient)
        self._optimizer.step()
        if self._average is not None:
            self._average.update()
        return sum(value for value, _ in found)


def _share(loss: torch.nn.Module, of_structures: float, of_atoms: float) -> torch.nn.Module:
    """The loss of a part of a batch, so that those of all parts add up to that of the whole.

    MACE's losses are a mean over the structures (energies) plus one over the atoms (forces).
    """
    share = copy.deepcopy(loss)
    for name, factor in (("energy_weight", of_structures), ("forces_weight", of_atoms)):
        if hasattr(share, name):
            getattr(share, name).mul_(factor)
    return share
