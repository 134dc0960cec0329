"""One member of the ensemble: a model, its training state and its own data.

Owns everything that its next epoch depends on, and turns it into plain state and back.  Knows
nothing of the other members, MPI, MD or files.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fhi_al.core.label import Label, of_systems
from fhi_al.models.energy_constants import (
    MOST_ERROR_PER_ATOM,
    corrected_energies,
    foreign_energies,
    largest_error_per_atom,
)
from fhi_al.models.evaluation import Evaluation
from fhi_al.models.interface import (
    InferenceModel,
    ModelBackend,
    NormalisationConstants,
    TrainableModel,
    ValidationErrors,
)
from fhi_al.models.member_state import STATE_VERSION, state_misfit

log = logging.getLogger(__name__)


class Member:
    """One model that is trained on its own data.

    Parameters
    ----------
    index : int
        Position in the ensemble.
    seed : int
        Of the initial weights and of the order of the training batches.
    backend : ModelBackend
        Shared by the members.
    settings
        Of mace_settings.yaml.

    Attributes
    ----------
    training, validation : list of Label
    epochs : int
        Epochs trained since the beginning.
    fitted : bool
        The model has normalisation constants of a training set, or of the file it was loaded from.
    frozen : bool
        They must not change any more.
    changes : int
        Goes up whenever anything in :meth:`state` but the labels changes.
    """

    def __init__(self, index: int, seed: int, backend: ModelBackend, settings: Any) -> None:
        self.index = index
        self.seed = seed
        self.training: list[Label] = []
        self.validation: list[Label] = []
        self.epochs = 0
        self.fitted = False
        self.frozen = False
        self.changes = 0
        self._backend = backend
        self._settings = settings
        self._order = torch.Generator()
        self._order.manual_seed(seed)
        self._model: TrainableModel | None = None
        self._evaluation = Evaluation(
            index,
            backend,
            int(settings.training.valid_batch_size),
            lambda: self.model.inference_weights(),
        )

    def begin_anew(self) -> None:
        """Take the initial weights again, with the constants of the training set as it is now.

        Optimizer and moving average are fresh; the order of batches and the count of epochs go on.
        """
        self._evaluation.require_no_round()
        self._model = None
        gc.collect()  # what it has recorded holds memory of the device, in reference cycles
        self._model = self._backend.trainable(self.seed)
        self.frozen = False
        self.fit_normalisation()
        self.frozen = True
        self._count_change()

    def add_training(self, labels: Sequence[Label]) -> None:
        """Append labels to the training set; not during a training round."""
        self._evaluation.require_no_round()
        self.training.extend(labels)

    def add_validation(self, labels: Sequence[Label]) -> None:
        """Append labels to the validation set; not during a training round."""
        self._evaluation.require_no_round()
        self.validation.extend(labels)

    def build(self, with_weights: bool = True) -> None:
        """Build the model if that has not been done; needs about a second.

        Parameters
        ----------
        with_weights
            False if a state is loaded next: saves drawing initial weights.
        """
        if self._model is not None:
            return
        self._model = self._backend.trainable(self.seed if with_weights else None)
        known = self._backend.known_constants(self._settings.architecture.atomic_energies)
        if with_weights and known is not None:
            self._model.set_normalisation(known)
            self.fitted = True

    def _built(self, with_weights: bool = True) -> TrainableModel:
        self.build(with_weights)
        assert self._model is not None
        return self._model

    @property
    def model(self) -> TrainableModel:
        """The model in training, with the raw weights."""
        return self._built()

    @property
    def inference_model(self) -> InferenceModel:
        """A copy with the weights that MD and exports use: the moving average where there is one.

        During a training round these are the weights from before it, so that nothing depends on
        how far the training has come.
        """
        return self._evaluation.model

    @property
    def version(self) -> int:
        """Goes up whenever what the member predicts changes."""
        return self._evaluation.version

    def begin_round(self) -> None:
        """Being trained from here on, here or elsewhere: only training may change the member.

        Raises
        ------
        RuntimeError
            If a training round is under way; so do all methods that touch labels or state in it.
        """
        self._evaluation.begin_round()

    def end_round(self) -> None:
        """No longer being trained."""
        self._evaluation.end_round()

    def _count_change(self, *, weights: bool = True) -> None:
        self.changes += 1
        if weights:
            self._evaluation.weights_changed()

    @property
    def normalisation(self) -> NormalisationConstants:
        """E0s, scale, shift and average number of neighbours as the model has them."""
        return self.model.normalisation

    def fit_normalisation(self) -> NormalisationConstants:
        """Estimate normalisation constants from the training set and give them to the model.

        E0s given by the user are used as they are.  The weights and the optimizer carry on.

        Raises
        ------
        RuntimeError
            If they are frozen: a change under trained weights shifts every prediction.
        ValueError
            If there is no training label, or an element has no E0 among the user's.
        """
        self._evaluation.require_no_round()
        if self.frozen:
            raise RuntimeError(f"member {self.index}: the normalisation constants are frozen")
        given = self._settings.architecture.atomic_energies
        found = self._backend.fit_normalisation(of_systems(self.training), given or None)
        self.model.set_normalisation(found)
        self.fitted = True
        self._count_change()
        if self._backend.known_constants(given) is not None:
            self.fit_energies_of_the_method()
        return self.normalisation

    def fit_energies_of_the_method(self) -> None:
        """Correct the E0s of a pretrained model, which belong to another method than the labels.

        As :meth:`fit_energies_of_new_compositions`; of E0s that the user gave it is told, too, if
        the zero points of model and labels do not fit.
        """
        self.fit_energies_of_new_compositions()
        if self._given_atomic_energies:
            self._tell_foreign_energies()

    def freeze_normalisation(self) -> None:
        """Never change E0s, scale, shift and neighbours again."""
        self._evaluation.require_no_round()
        self.frozen = True
        self._count_change(weights=False)

    def fit_atomic_energies(self) -> None:
        """Take the constant part of the energies' errors out of the model, through its E0s.

        Least squares on the training set, with the weights that MD uses; forces do not change, and
        neither do weights and optimizer.  Training takes such a part away only slowly: an energy
        weighs little beside the forces.  With ``TRAINING.fit_atomic_energies``; else nothing is
        done.
        """
        if self._settings.training.fit_atomic_energies:
            self._correct_atomic_energies(by_element=not self._given_atomic_energies)

    def fit_energies_of_new_compositions(self) -> None:
        """Correct the E0s for compositions that were not there when they were fitted.

        As :meth:`fit_atomic_energies`, by the smallest change that does it, which leaves the
        energies of the compositions that were there as they are where the new ones allow it; E0s
        that the user gave stay.  Frozen normalisation constants are no reason against it.  What is
        left of a composition's mean error is told if it is more than training should begin with.
        """
        if not self._given_atomic_energies:
            self._correct_atomic_energies(by_element=True)
            self._tell_foreign_energies()

    def _tell_foreign_energies(self) -> None:
        if self.index != 0:
            return
        labels = of_systems(self.training)
        errors = self._evaluation.energy_errors(labels)
        left = largest_error_per_atom(self._backend.elements, labels, errors)
        if left > MOST_ERROR_PER_ATOM:
            log.warning("%s", foreign_energies(left, given=self._given_atomic_energies))

    @property
    def _given_atomic_energies(self) -> bool:
        return bool(self._settings.architecture.atomic_energies)

    def _correct_atomic_energies(self, *, by_element: bool) -> None:
        constants, labels = self.model.normalisation, of_systems(self.training)
        found = corrected_energies(
            constants.atomic_energies,
            self._backend.elements,
            labels,
            self._evaluation.energy_errors(labels),
            by_element=by_element,
        )
        if found != constants.atomic_energies:
            self.model.set_normalisation(replace(constants, atomic_energies=found))
            self._count_change()

    def train_epoch(self) -> Generator[None, None, float]:
        """Train one pass over the training set in a fresh order, with a pause after each batch.

        The last batch may be smaller.

        Returns
        -------
        float
            Mean loss per structure; NaN if the training diverged.

        Raises
        ------
        RuntimeError
            If there are no training labels, or no normalisation: neither fitted nor loaded.
        TooLarge
            If not even one structure fits into memory.
        """
        if not self.fitted or not self.training:
            raise RuntimeError(
                f"member {self.index}: labels and fit_normalisation() before training"
            )
        order = torch.randperm(len(self.training), generator=self._order).tolist()
        size = int(self._settings.training.batch_size)
        # As they come: a device is waited for at the end of the epoch only.
        losses: list[Any] = []
        n_labels: list[int] = []
        try:
            for start in range(0, len(order), size):
                labels = [self.training[place] for place in order[start : start + size]]
                samples = [self._backend.label_sample(label) for label in labels]
                losses.append(self.model.take_step(samples))
                n_labels.append(len(samples))
                yield
            self.epochs += 1
        finally:  # a pass that is given up has changed the weights too
            self.model.finish_steps()
            self._count_change()
        total = 0.0
        for loss, n in zip(_numbers(losses), n_labels, strict=True):
            total += loss * n
        return total / len(order)

    def validate(self) -> ValidationErrors:
        """Errors on the validation set, with the weights that MD uses.

        Costs nothing when neither the model nor the set has changed since the last call.

        Raises
        ------
        RuntimeError
            If there is no validation label.
        """
        if not self.validation:
            raise RuntimeError(f"member {self.index}: no validation labels")
        return self._evaluation.errors(self.validation)

    def errors_on(self, labels: Sequence[Label]) -> ValidationErrors:
        """Errors on any labels (at least one), with the weights that MD uses."""
        return self._evaluation.errors_on(labels)

    def fresh_optimizer(self, scheduler: bool) -> None:
        """Forget the optimizer's history, with or without a learning-rate scheduler from here on.

        The learning rate and the loss are those of the first stage.  The weights stay and so does
        their moving average: what MD and validation use does not jump because the optimizer starts
        anew.
        """
        self._evaluation.require_no_round()
        self.model.restart_optimizer(scheduler=scheduler)
        self._count_change(weights=False)

    def begin_second_stage(self) -> None:
        """Train on with the second stage's loss and constant learning rate (``TRAINING.swa_...``).

        From the weights that MD and validation use, which stay as they are; the optimizer and the
        moving average start afresh.  :meth:`fresh_optimizer` ends it.
        """
        self._evaluation.require_no_round()
        self.model.begin_second_stage()
        self._count_change()

    @property
    def in_second_stage(self) -> bool:
        """Whether the next step is one of the second stage."""
        return self.model.in_second_stage

    def scheduler_step(self, mae_forces: float | None) -> None:
        """Call after every epoch: let the learning-rate scheduler count it.

        Parameters
        ----------
        mae_forces
            Validation force MAE in eV/A if this epoch was validated, else None.
            ``scheduler_patience`` is a number of epochs, as in MACE, however rarely one is
            validated.
        """
        self.model.scheduler_step(mae_forces)
        self._count_change(weights=False)

    def restart_plateau(self) -> None:
        """Call when the validation set has grown while a learning-rate scheduler is at work.

        Its lowest error was measured on another set: the error of the weights as they are, on the
        set as it is, takes its place.  Epochs without improvement stay counted, and the rate stays.
        """
        if self.has_scheduler:
            self.model.restart_plateau(self.validate().mae_forces)
            self._count_change(weights=False)

    @property
    def has_scheduler(self) -> bool:
        """Whether a learning-rate scheduler is at work."""
        return self.model.has_scheduler

    @property
    def learning_rate(self) -> float:
        """Of the next optimizer step."""
        return self.model.learning_rate

    def is_finite(self) -> bool:
        """True if no weight, raw or averaged, is NaN or infinite."""
        return self._built().is_finite()

    def weights(self) -> dict[str, Any]:
        """A snapshot to come back to with :meth:`set_weights`; the optimizer is not part of it."""
        return self._built().weights()

    def set_weights(self, weights: dict[str, Any]) -> None:
        """Put a snapshot back, average and normalisation included."""
        self._evaluation.require_no_round()
        self._built().set_weights(weights)
        self._count_change()

    def load_exported(self, path: Path) -> None:
        """Take weights and normalisation of an exported model; fitted, frozen, optimizer fresh.

        Some files run code when read: only for files of the user's own.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no such file, or it does not fit the settings.
        """
        self._evaluation.require_no_round()
        # With its seed, by which more is drawn than the weights: adapters, the order of replay.
        self._built().load_exported(path)
        self.fitted = self.frozen = True
        self._count_change()

    def state(self) -> dict[str, Any]:
        """Everything a bitwise resume needs; torch.save takes it, weights_only loads it.

        The labels themselves are not in it, only their keys in order.

        Raises
        ------
        RuntimeError
            During a training round: it would be neither the state before nor the one after it.
        """
        self._evaluation.require_no_round()
        return {
            **self._identity(),
            **self._built().state(),
            "fitted": self.fitted,
            "frozen": self.frozen,
            "epochs": self.epochs,
            "order": self._order.get_state(),
        }

    def load_state(self, state: dict[str, Any], errors: ValidationErrors | None = None) -> None:
        """Put a state back; add the labels first.

        Parameters
        ----------
        state
            Of :meth:`state`, in this process or another.
        errors
            On the validation set as it is now, if they are known: :meth:`validate` is then free.

        Raises
        ------
        ValueError
            If the state is of another version, architecture or seed, or its labels are not those
            of this member in the same order.
        """
        self._evaluation.require_no_round()
        misfit = state_misfit(state, self._identity())
        if misfit is not None:
            raise ValueError(f"member {self.index}: {misfit}")
        self._built(with_weights=False).load_state(state)
        self._order.set_state(state["order"])
        self.fitted, self.frozen = state["fitted"], state["frozen"]
        self.epochs = state["epochs"]
        self._count_change()
        if errors is not None:
            self._evaluation.remember(len(self.validation), errors)

    def _identity(self) -> dict[str, Any]:
        return {
            "version": STATE_VERSION,
            "index": self.index,
            "seed": self.seed,
            "architecture": self._backend.identity(),
            "training": [label.key for label in self.training],
            "validation": [label.key for label in self.validation],
        }


def _numbers(losses: Sequence[Any]) -> list[float]:
    """Losses as plain numbers: those on a device come all at once."""
    if losses and all(isinstance(loss, torch.Tensor) for loss in losses):
        found: list[float] = torch.stack(list(losses)).tolist()
        return found
    return [float(loss) for loss in losses]
