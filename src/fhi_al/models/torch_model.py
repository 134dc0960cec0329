"""Models of a torch backend: one in training with its optimisation, one that only predicts.

Weights in, weights out.  Knows nothing of labels' sets, members or files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from fhi_al.models.cuda_graphs import Recordings, Replayed
from fhi_al.models.default_dtype import default_dtype
from fhi_al.models.interface import InferenceWeights, NormalisationConstants
from fhi_al.models.loss import Share
from fhi_al.models.optimisation import Optimisation
from fhi_al.models.state_bytes import copied
from fhi_al.models.training_step import TrainingStep


class TorchParts(Protocol):
    """What a torch backend knows of its modules."""

    settings: Any
    recordings: Recordings

    @property
    def r_max(self) -> float:
        """Cutoff radius in A."""
        ...

    def apply_normalisation(
        self, module: torch.nn.Module, constants: NormalisationConstants
    ) -> None:
        """Give a module constants; it never sees the E0s."""
        ...

    def optimizer_options(self, module: torch.nn.Module) -> dict[str, Any]:
        """Arguments of torch's Adam: ``params``, ``lr``, ..."""
        ...

    def training_batch(
        self, samples: Sequence[Any], constants: NormalisationConstants
    ) -> dict[str, torch.Tensor]:
        """Samples as a batch, and what the loss compares with."""
        ...

    def training_loss(
        self,
        module: torch.nn.Module,
        tensors: dict[str, torch.Tensor],
        energy_share: Share,
        forces_share: Share,
        second_stage: bool,
    ) -> torch.Tensor:
        """The loss of a batch, of which gradients are taken; of one of two stages."""
        ...

    def inference_tensors(
        self, module: torch.nn.Module, tensors: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Tensors of a module in training, by the names in one that predicts."""
        ...

    def read_exported(
        self, path: Path, module: torch.nn.Module
    ) -> tuple[dict[str, Any], NormalisationConstants]:
        """State dict for a module, and constants; ValueError if they are not for it."""
        ...


class TorchInference:
    """A torch module that only predicts; see :class:`fhi_al.models.interface.InferenceModel`.

    Parameters
    ----------
    backend : TorchParts
    module
        Its own; no parameter of it takes gradients.
    dtype : torch.dtype
        Of the module.
    """

    def __init__(self, backend: TorchParts, module: torch.nn.Module, dtype: torch.dtype) -> None:
        self.module = module
        self.dtype = dtype
        self.normalisation = NormalisationConstants(())
        self._backend = backend
        # Not found anew each time: that takes longer than copying them.
        self._tensors = dict(module.state_dict())
        self._replayed: dict[str, Replayed] = {}

    def replayed(self, name: str, function: Callable[[dict[str, torch.Tensor]], Any]) -> Replayed:
        """A function of this model, by a name of its own, as it is recorded and replayed."""
        if name not in self._replayed:
            recordings, r_max = self._backend.recordings, self._backend.r_max
            self._replayed[name] = Replayed(function, recordings, r_max)
        return self._replayed[name]

    def load(self, weights: InferenceWeights) -> None:
        """See :meth:`fhi_al.models.interface.InferenceModel.load`."""
        with torch.no_grad():
            for name, given in weights.tensors.items():
                tensor = torch.from_numpy(given) if isinstance(given, np.ndarray) else given
                self._tensors[name].copy_(tensor)
        if not equal_but_for_energies(self.normalisation, weights.normalisation):
            for replayed in self._replayed.values():
                replayed.forget()
        self.normalisation = weights.normalisation
        self._backend.apply_normalisation(self.module, weights.normalisation)

    def weights(self) -> InferenceWeights:
        """See :meth:`fhi_al.models.interface.InferenceModel.weights`."""
        return InferenceWeights(self._tensors, self.normalisation)


class TorchModel:
    """A torch module in training; see :class:`fhi_al.models.interface.TrainableModel`.

    Parameters
    ----------
    backend : TorchParts
    module
        With the raw weights.
    normalisation : NormalisationConstants
        To begin with.
    """

    def __init__(
        self, backend: TorchParts, module: torch.nn.Module, normalisation: NormalisationConstants
    ) -> None:
        self.module = module
        self.normalisation = normalisation
        self._backend = backend
        self.optimisation = Optimisation(
            module,
            backend.settings.training,
            lambda: backend.optimizer_options(module),
            replayed=backend.recordings.replays,
        )
        self._step = TrainingStep(
            module,
            self.optimisation,
            lambda samples: backend.training_batch(samples, self.normalisation),
            lambda tensors, energy_share, forces_share: backend.training_loss(
                module, tensors, energy_share, forces_share, self.optimisation.second_stage
            ),
            backend.recordings,
            backend.r_max,
        )
        self.set_normalisation(normalisation)
        self._dtype = next(module.parameters()).dtype
        self._tensors = dict(module.state_dict())
        self._parameters = [name for name, one in module.named_parameters() if one.requires_grad]

    def set_normalisation(self, constants: NormalisationConstants) -> None:
        """See :meth:`fhi_al.models.interface.TrainableModel.set_normalisation`."""
        if not equal_but_for_energies(self.normalisation, constants):
            self._step.forget_recordings()
        self.normalisation = constants
        self._backend.apply_normalisation(self.module, constants)

    @property
    def learning_rate(self) -> float:
        """See :attr:`fhi_al.models.interface.TrainableModel.learning_rate`."""
        return self.optimisation.learning_rate

    @property
    def has_scheduler(self) -> bool:
        """See :attr:`fhi_al.models.interface.TrainableModel.has_scheduler`."""
        return self.optimisation.scheduler is not None

    def take_step(self, samples: Sequence[Any]) -> torch.Tensor | float:
        """See :meth:`fhi_al.models.interface.TrainableModel.take_step`."""
        # Optimizers make tensors of the default dtype, too.
        with default_dtype(self._dtype):
            return self._step.take(samples)

    def finish_steps(self) -> None:
        """See :meth:`fhi_al.models.interface.TrainableModel.finish_steps`."""
        self._step.join()

    def scheduler_step(self, mae_forces: float | None) -> None:
        """See :meth:`fhi_al.models.interface.TrainableModel.scheduler_step`."""
        self.optimisation.scheduler_step(mae_forces)

    def restart_plateau(self, mae_forces: float) -> None:
        """See :meth:`fhi_al.models.interface.TrainableModel.restart_plateau`."""
        self.optimisation.restart_plateau(mae_forces)

    def restart_optimizer(self, *, scheduler: bool) -> None:
        """See :meth:`fhi_al.models.interface.TrainableModel.restart_optimizer`."""
        self.optimisation.restart(scheduler)

    def begin_second_stage(self) -> None:
        """See :meth:`fhi_al.models.interface.TrainableModel.begin_second_stage`."""
        self.optimisation.begin_second_stage()

    @property
    def in_second_stage(self) -> bool:
        """See :attr:`fhi_al.models.interface.TrainableModel.in_second_stage`."""
        return self.optimisation.second_stage

    def is_finite(self) -> bool:
        """See :meth:`fhi_al.models.interface.TrainableModel.is_finite`."""
        average = self.optimisation.average
        tensors = [*self.module.parameters(), *([] if average is None else average.shadow_params)]
        return bool(torch.cat([tensor.detach().flatten() for tensor in tensors]).isfinite().all())

    def weights(self) -> dict[str, Any]:
        """See :meth:`fhi_al.models.interface.TrainableModel.weights`."""
        return copied({**self._state(), "average": self.optimisation.average_state()})

    def set_weights(self, weights: dict[str, Any]) -> None:
        """See :meth:`fhi_al.models.interface.TrainableModel.set_weights`."""
        self._load(weights)
        self.optimisation.load_average(weights["average"])

    def inference_weights(self) -> InferenceWeights:
        """See :meth:`fhi_al.models.interface.TrainableModel.inference_weights`."""
        tensors, average = self._tensors, self.optimisation.average
        if average is not None:
            averaged = zip(self._parameters, average.shadow_params, strict=True)
            tensors = {**tensors, **dict(averaged)}
        tensors = self._backend.inference_tensors(self.module, tensors)
        return InferenceWeights(tensors, self.normalisation)

    def state(self) -> dict[str, Any]:
        """See :meth:`fhi_al.models.interface.TrainableModel.state`."""
        return copied({**self._state(), "optimisation": self.optimisation.state()})

    def load_state(self, state: dict[str, Any]) -> None:
        """See :meth:`fhi_al.models.interface.TrainableModel.load_state`."""
        self._load(state)
        self.optimisation.load_state(state["optimisation"])

    def load_exported(self, path: Path) -> None:
        """See :meth:`fhi_al.models.interface.TrainableModel.load_exported`."""
        tensors, constants = self._backend.read_exported(path, self.module)
        self.module.load_state_dict(tensors)
        self.set_normalisation(constants)
        self.optimisation.restart(scheduler=False)
        self.optimisation.restart_average()

    def _state(self) -> dict[str, Any]:
        return {"model": dict(self._tensors), "statistics": asdict(self.normalisation)}

    def _load(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state["model"])
        self.set_normalisation(NormalisationConstants(**state["statistics"]))


def equal_but_for_energies(one: NormalisationConstants, other: NormalisationConstants) -> bool:
    """Whether a module computes the same with both: it never sees the E0s."""
    return replace(one, atomic_energies=()) == replace(other, atomic_energies=())
