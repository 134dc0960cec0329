"""One member of the ensemble: a model, its training state and its own data.

Owns everything that its next epoch depends on, and turns it into plain state and back.  Knows
nothing of the other members, MPI, MD or files.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from fhi_al.core.label import Label
from fhi_al.models.mace_adapter.arguments import architecture_identity
from fhi_al.models.mace_adapter.data import GraphStore, training_statistics
from fhi_al.models.mace_adapter.model import (
    ModelFactory,
    Statistics,
    copy_of,
    model_misfit,
    read_statistics,
    write_statistics,
)
from fhi_al.models.mace_adapter.training import ForceErrors, errors
from fhi_al.models.member_state import STATE_VERSION, state_misfit
from fhi_al.models.optimisation import Optimisation


class Member:
    """One MACE model that is trained on its own data.

    Parameters
    ----------
    index : int
        Position in the ensemble.
    seed : int
        Of the initial weights and of the order of the training batches.
    factory : ModelFactory
    store : GraphStore
        Graphs of labels, shared by the members.

    Attributes
    ----------
    training, validation : list of Label
    epochs : int
        Epochs trained since the beginning.
    fitted : bool
        The model has statistics of a training set, or of the file it was loaded from.
    frozen : bool
        The statistics must not change any more.
    version : int
        Goes up whenever what the model computes changes.
    """

    def __init__(self, index: int, seed: int, factory: ModelFactory, store: GraphStore) -> None:
        self.index = index
        self.seed = seed
        self.training: list[Label] = []
        self.validation: list[Label] = []
        self.epochs = 0
        self.fitted = False
        self.frozen = False
        self.version = 0
        self._factory = factory
        self._store = store
        self._order = torch.Generator()
        self._order.manual_seed(seed)
        self._parts: tuple[torch.nn.Module, Optimisation] | None = None
        self._inference: torch.nn.Module | None = None
        self._inference_version = -1
        self._validation_batches: list[Any] | None = None
        self._last_validation: tuple[tuple[int, int], ForceErrors] | None = None

    def add_training(self, labels: Sequence[Label]) -> None:
        """Append labels to the training set."""
        self.training.extend(labels)

    def add_validation(self, labels: Sequence[Label]) -> None:
        """Append labels to the validation set."""
        self.validation.extend(labels)
        self._validation_batches = None

    def build(self, with_weights: bool = True) -> None:
        """Build the model if that has not been done; needs about a second.

        Parameters
        ----------
        with_weights
            False if a state or a model file is loaded next: saves drawing initial weights.
        """
        if self._parts is None:
            model = self._factory.model(self.seed if with_weights else None)
            self._parts = (model, Optimisation(self._factory, model))

    @property
    def model(self) -> torch.nn.Module:
        """The model in training, with the raw weights."""
        self.build()
        assert self._parts is not None
        return self._parts[0]

    @property
    def optimisation(self) -> Optimisation:
        """Optimizer, scheduler and moving average of the model."""
        self.build()
        assert self._parts is not None
        return self._parts[1]

    @property
    def inference_model(self) -> torch.nn.Module:
        """A copy with the weights that validation, MD and exports use: the EMA where it is on."""
        model, average = self.model, self.optimisation.average
        if self._inference is None:
            self._inference = copy_of(model)
        if self._inference_version != self.version:
            self._inference.load_state_dict(model.state_dict())
            write_statistics(self._inference, read_statistics(model))
            if average is not None:
                average.copy_to(self._inference.parameters())
            self._inference_version = self.version
        return self._inference

    @property
    def statistics(self) -> Statistics:
        """E0s, scale, shift and average number of neighbours as the model has them."""
        return read_statistics(self.model)

    def fit_statistics(self) -> Statistics:
        """Estimate the statistics from the training set and write them into the model.

        E0s given by the user are used as they are.  The weights and the optimizer carry on.

        Raises
        ------
        RuntimeError
            If the statistics are frozen: a change under trained weights shifts every prediction.
        ValueError
            If there is no training label, or an element has no E0 among the user's.
        """
        if self.frozen:
            raise RuntimeError(f"member {self.index}: the statistics are frozen")
        given = self._factory.settings.architecture.atomic_energies
        found = training_statistics(self.training, self._store, self._factory, given or None)
        write_statistics(self.model, found)
        self.fitted = True
        self.version += 1
        return found

    def freeze_statistics(self) -> None:
        """Never change E0s, scale, shift and neighbours again."""
        self.frozen = True

    def train_epoch(self) -> float:
        """Train one pass over the training set in a fresh order; the last batch may be smaller.

        Returns
        -------
        float
            Mean loss per structure; NaN if the training blew up.

        Raises
        ------
        RuntimeError
            If there are no training labels, or no statistics: neither fitted nor loaded.
        """
        if not self.fitted or not self.training:
            raise RuntimeError(f"member {self.index}: labels and fit_statistics() before training")
        order = torch.randperm(len(self.training), generator=self._order).tolist()
        shuffled = [self.training[place] for place in order]
        batches = self._store.batches(shuffled, int(self._factory.settings.training.batch_size))
        loss = self.optimisation.train_one_pass(batches)
        self.epochs += 1
        self.version += 1
        return loss

    def validate(self) -> ForceErrors:
        """Errors on the validation set, with the weights that MD uses.

        Costs nothing when neither the model nor the set has changed since the last call.

        Raises
        ------
        RuntimeError
            If there is no validation label.
        """
        if not self.validation:
            raise RuntimeError(f"member {self.index}: no validation labels")
        of = (self.version, len(self.validation))
        if self._last_validation is None or self._last_validation[0] != of:
            self._last_validation = (of, self._validate())
        return self._last_validation[1]

    def _validate(self) -> ForceErrors:
        if self._validation_batches is None:
            size = int(self._factory.settings.training.valid_batch_size)
            self._validation_batches = list(self._store.batches(self.validation, size))
        loss = self.optimisation.loss
        return errors(self._factory, self.inference_model, loss, self._validation_batches)

    def fresh_optimizer(self, scheduler: bool) -> None:
        """Forget the optimizer's history, with or without a learning-rate scheduler from here on.

        The weights stay and so does their moving average: what MD and validation use does not
        jump because the optimizer starts anew.
        """
        self.optimisation.restart(scheduler)

    def scheduler_step(self, mae_forces: float | None) -> None:
        """Call after every epoch: let the learning-rate scheduler count it.

        Parameters
        ----------
        mae_forces
            Validation force MAE in eV/A if this epoch was validated, else None.
            ``scheduler_patience`` is a number of epochs, as in MACE, however rarely one is
            validated.
        """
        self.optimisation.scheduler_step(mae_forces)

    @property
    def has_scheduler(self) -> bool:
        """Whether a learning-rate scheduler is at work."""
        return self.optimisation.scheduler is not None

    @property
    def learning_rate(self) -> float:
        """Of the next optimizer step."""
        return float(self.optimisation.optimizer.param_groups[0]["lr"])

    def is_finite(self) -> bool:
        """True if no weight, raw or averaged, is NaN or infinite."""
        average = self.optimisation.average
        tensors = [*self.model.parameters(), *([] if average is None else average.shadow_params)]
        return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)

    def weights(self) -> bytes:
        """A snapshot to come back to with :meth:`set_weights`; the optimizer is not part of it."""
        buffer = io.BytesIO()
        snapshot = {
            "model": dict(self.model.state_dict()),
            "average": self.optimisation.average_state(),
            "statistics": asdict(self.statistics),
        }
        torch.save(snapshot, buffer)
        return buffer.getvalue()

    def set_weights(self, weights: bytes) -> None:
        """Put a snapshot back, average and statistics included."""
        # Said aloud: importing mace makes torch unpickle by default.
        snapshot = torch.load(io.BytesIO(weights), map_location="cpu", weights_only=True)
        self.model.load_state_dict(snapshot["model"])
        write_statistics(self.model, Statistics(**snapshot["statistics"]))
        self.optimisation.load_average(snapshot["average"])
        self.version += 1

    def adopt(self, other: torch.nn.Module, source: str) -> None:
        """Take weights and statistics of an exported model; fitted, frozen, optimizer fresh.

        Parameters
        ----------
        other
            A model as MACE saves it.
        source
            Its name in messages.

        Raises
        ------
        ValueError
            If elements, cutoff or the shapes of the weights differ from the settings.
        """
        self.build(with_weights=False)
        misfit = model_misfit(other, self._factory, self.model)
        if misfit is not None:
            raise ValueError(f"{source}: {misfit}. Use the settings the model was trained with.")
        self.model.load_state_dict(other.state_dict())
        write_statistics(self.model, read_statistics(other))
        self.optimisation.restart(scheduler=False)
        self.optimisation.restart_average()
        self.fitted = self.frozen = True
        self.version += 1

    def state(self) -> dict[str, Any]:
        """Everything a bitwise resume needs; torch.save takes it, weights_only loads it.

        The labels themselves are not in it, only their keys in order.
        """
        return {
            **self._identity(),
            "model": {name: tensor.clone() for name, tensor in self.model.state_dict().items()},
            "statistics": asdict(self.statistics),
            "fitted": self.fitted,
            "frozen": self.frozen,
            "epochs": self.epochs,
            "optimisation": self.optimisation.state(),
            "order": self._order.get_state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Put a state back; add the labels first.

        Raises
        ------
        ValueError
            If the state is of another version, architecture or seed, or its labels are not those
            of this member in the same order.
        """
        misfit = state_misfit(state, self._identity())
        if misfit is not None:
            raise ValueError(f"member {self.index}: {misfit}")
        self.build(with_weights=False)
        self.model.load_state_dict(state["model"])
        write_statistics(self.model, Statistics(**state["statistics"]))
        self.optimisation.load_state(state["optimisation"])
        self._order.set_state(state["order"])
        self.fitted, self.frozen = state["fitted"], state["frozen"]
        self.epochs = state["epochs"]
        self.version += 1

    def _identity(self) -> dict[str, Any]:
        return {
            "version": STATE_VERSION,
            "index": self.index,
            "seed": self.seed,
            "architecture": architecture_identity(self._factory.settings, self._factory.elements),
            "training": [label.key for label in self.training],
            "validation": [label.key for label in self.validation],
        }
