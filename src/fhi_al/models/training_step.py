"""One optimizer step on a batch, in parts if the memory does not suffice for all of it at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch

from fhi_al.models.cuda_graphs import Recordings, Replayed
from fhi_al.models.graphs import Tensors
from fhi_al.models.loss import Share
from fhi_al.models.optimisation import Optimisation
from fhi_al.models.out_of_memory import TooLarge, in_halves, is_out_of_memory
from fhi_al.models.padding import SHARES

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
    batch : callable
        Samples -> a batch.
    loss : callable
        (batch, share of the structures, share of the atoms) -> loss of the batch, of which
        gradients are taken; the shares are those of :class:`fhi_al.models.loss.Loss`.
    recordings : Recordings
        Whether steps are recorded and replayed.
    r_max : float
        Cutoff of the model in A.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        optimisation: Optimisation,
        batch: Callable[[Sequence[Any]], Tensors],
        loss: Callable[[Tensors, Share, Share], torch.Tensor],
        recordings: Recordings,
        r_max: float,
    ) -> None:
        self._module = module
        self._optimisation = optimisation
        self._batch = batch
        self._loss = loss
        self._recordings = recordings
        # Apart from other models: a GPU is not filled by the steps of one small model.
        self._recorder = None if recordings.recorder is None else recordings.recorder.apart()
        self._replayed = Replayed(self._on_the_device, recordings, r_max, self._recorder)
        self._replacements = optimisation.replacements
        self._said = False

    def forget_recordings(self) -> None:
        """Numbers that are part of the model, not tensors of it, are others."""
        self._replayed.forget()

    def join(self) -> None:
        """What the device is told next, it does after all steps so far."""
        if self._recorder is not None:
            self._recorder.join()

    def take(self, samples: Sequence[Any]) -> torch.Tensor | float:
        """One step; returns the mean loss of the structures, not to be read before :meth:`join`.

        Raises
        ------
        TooLarge
            If not even one structure fits into memory, or the optimizer's history does not.
        """
        begun: list[bool] = []
        optimizer = self._optimisation.optimizer
        hook = optimizer.register_step_pre_hook(lambda *_: begun.append(True))
        try:
            tensors = self._batch(samples)
            if self._recordings.takes(tensors):
                return self._replay(tensors)
            self.join()
            optimizer.zero_grad(set_to_none=True)
            loss = self._loss(tensors, 1.0, 1.0)
            loss.backward()
            self._optimisation.step()
            return loss.detach()
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
        self.join()
        self._recordings.forget()  # they hold memory of their own; it is given back in in_halves
        return self._in_parts(samples)

    def _replay(self, tensors: Tensors) -> torch.Tensor:
        if self._replacements != self._optimisation.replacements:
            self._replayed.forget()
            self._replacements = self._optimisation.replacements
        assert self._recorder is not None
        with self._recorder.in_turn(tensors):
            self._optimisation.begin_recorded_step()
            found = self._replayed(tensors)
        self._optimisation.end_recorded_step()
        return found["loss"]

    def _on_the_device(self, tensors: Tensors) -> Tensors:
        """A step on a padded batch, nothing of which is waited for."""
        # Not to zero: a recording has gradients of its own, which it writes first.
        self._optimisation.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(tensors, *(tensors[name] for name in SHARES))
        loss.backward()
        self._optimisation.recorded_step()
        return {"loss": loss.detach()}

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
            value = self._loss(self._batch(some), len(some) / len(samples), of_atoms)
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
