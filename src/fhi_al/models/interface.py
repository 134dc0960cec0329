"""What a model backend is, and the data that pass between it and the rest.

A backend is one kind of model (MACE, ...).  All else in this package, and all that uses it, speaks
to these protocols.  Imports neither torch nor any backend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fhi_al.core.label import Label
from fhi_al.core.structure import Array
from fhi_al.core.system_errors import SystemErrors


class Geometry(Protocol):
    """What a prediction needs: a Structure, a Label and ASE's Atoms all have it.

    A structure that moves by small steps may have a ``place``, a number by which its neighbours of
    the step before are found (:mod:`fhi_al.models.neighbour_lists`).
    """

    @property
    def numbers(self) -> Any: ...
    @property
    def positions(self) -> Any: ...
    @property
    def cell(self) -> Any: ...
    @property
    def pbc(self) -> Any: ...


@dataclass(frozen=True, eq=False)
class Prediction:
    """What some members predict for one structure.

    Parameters
    ----------
    energies : (n_members,)
        In eV: relative to the sum of the E0s in the models' precision, the rest in float64.
    forces : (n_members, n_atoms, 3)
        In eV/A.  All NaN if the structure is broken: a position is not finite, or a molecule has
        flown apart by more than 200 A.
    stress : (n_members, 3, 3) or None
        In eV/A^3, ASE's sign; NaN for a structure that is not periodic in three directions; None
        if it was not asked for.
    """

    energies: Array
    forces: Array
    stress: Array | None = None


@dataclass(frozen=True)
class ValidationErrors:
    """Errors of one model on one set.

    Parameters
    ----------
    mae_forces, rmse_forces : float
        Over all force components, in eV/A.
    mae_energy_per_atom, rmse_energy_per_atom : float
        In eV.
    loss : float
        Of the set as if it were one batch, with the first stage's weights.
    mae_stress, rmse_stress : float or None
        Over all nine components, in eV/A^3; None if no label has a stress, or no error is asked
        for.
    by_system : tuple of SystemErrors
        The same for the points of each system.
    """

    mae_forces: float
    rmse_forces: float
    mae_energy_per_atom: float
    rmse_energy_per_atom: float
    loss: float
    mae_stress: float | None = None
    rmse_stress: float | None = None
    by_system: tuple[SystemErrors, ...] = ()


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of one member.

    Parameters
    ----------
    member : int
    epoch : int
        Counted from 1 in each training round.
    learning_rate : float
        With which the epoch was trained.
    loss : float
        Mean training loss per structure; NaN if the training diverged.
    errors : ValidationErrors or None
        Of the validation, None if this epoch was not validated.
    """

    member: int
    epoch: int
    learning_rate: float
    loss: float
    errors: ValidationErrors | None


@dataclass(frozen=True)
class NormalisationConstants:
    """Numbers of the training set that are part of the function a model computes.

    Parameters
    ----------
    atomic_energies : (n_elements,)
        E0 in eV, in the order of the atomic numbers.  A model never sees them: it is trained on
        energies relative to their sum, which is taken off labels and added to predictions in
        float64.
    scale, shift : float
        Of the rest of the energy per atom, in eV.
    avg_num_neighbors : float
        Average number of neighbours of an atom within the cutoff.
    """

    atomic_energies: tuple[float, ...]
    scale: float = 1.0
    shift: float = 0.0
    avg_num_neighbors: float = 1.0


@dataclass(frozen=True, eq=False)
class InferenceWeights:
    """All that another model of the same architecture needs to predict the same.

    Parameters
    ----------
    tensors : mapping
        By name: torch tensors (not copies), or NumPy arrays, in which a message carries them.
    normalisation : NormalisationConstants
    """

    tensors: Mapping[str, Any]
    normalisation: NormalisationConstants


class Sample(Protocol):
    """A structure in the form in which a backend makes batches of it, its neighbours found."""

    @property
    def n_atoms(self) -> int: ...

    @property
    def n_pairs(self) -> int:
        """Its size in a batch: directed pairs of neighbours."""
        ...


class InferenceModel(Protocol):
    """A model that only predicts, in a precision of its own."""

    def load(self, weights: InferenceWeights) -> None:
        """Take over weights of a model of the same architecture, of any precision."""
        ...

    def weights(self) -> InferenceWeights:
        """Its weights, not copies; another model that loads them predicts the same."""
        ...


class TrainableModel(Protocol):
    """One member's model, with all that moves its weights: optimizer, scheduler, average."""

    @property
    def normalisation(self) -> NormalisationConstants:
        """As the model has them."""
        ...

    def set_normalisation(self, constants: NormalisationConstants) -> None:
        """Give the model other constants; weights and optimizer carry on."""
        ...

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        ...

    @property
    def has_scheduler(self) -> bool:
        """Whether a learning-rate scheduler is at work."""
        ...

    def take_step(self, samples: Sequence[Any]) -> Any:
        """One optimizer step on labels as a batch; their mean loss, NaN if it diverges.

        A number, or what ``float`` makes one of after :meth:`finish_steps`: a device need not be
        waited for, and may take the steps of several models at the same time.

        Parameters
        ----------
        samples
            Of :meth:`ModelBackend.label_sample`.
        """
        ...

    def finish_steps(self) -> None:
        """From here on all is as if the steps so far had been waited for.

        Called before anything else of the model, or the losses of its steps, is used.
        """
        ...

    def scheduler_step(self, mae_forces: float | None) -> None:
        """Let the scheduler count an epoch; validation force MAE in eV/A if it was validated."""
        ...

    def restart_plateau(self, mae_forces: float) -> None:
        """Let the scheduler compare with this error from here on: the validation set has grown."""
        ...

    def restart_optimizer(self, *, scheduler: bool) -> None:
        """Forget the optimizer's history; weights and their average stay.

        The learning rate and the weights of the loss are those of the first stage.
        """
        ...

    def begin_second_stage(self) -> None:
        """Train on with the second stage's loss and constant learning rate (``TRAINING.swa_...``).

        The weights that validation uses become those that are trained, so that no prediction
        changes; their moving average starts again from them, and the optimizer afresh.
        """
        ...

    @property
    def in_second_stage(self) -> bool:
        """Whether the next step is one of the second stage."""
        ...

    def is_finite(self) -> bool:
        """True if no weight, raw or averaged, is NaN or infinite."""
        ...

    def weights(self) -> dict[str, Any]:
        """A copy of weights, average and normalisation, for :meth:`set_weights`."""
        ...

    def set_weights(self, weights: dict[str, Any]) -> None:
        """Put back what :meth:`weights` gave; the optimizer stays."""
        ...

    def inference_weights(self) -> InferenceWeights:
        """What validation, MD and exports use: the moving average where there is one."""
        ...

    def state(self) -> dict[str, Any]:
        """A copy of everything the next step depends on: plain values and tensors.

        ``torch.load(weights_only=True)`` must be able to read it back.
        """
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Put a state back, bit for bit.

        Raises
        ------
        ValueError
            If it does not fit the settings.
        """
        ...

    def load_exported(self, path: Path) -> None:
        """Take weights and normalisation of a file that :meth:`ModelBackend.export` wrote.

        The optimizer starts afresh.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no such file, or it does not fit the settings.
        """
        ...


class ModelBackend(Protocol):
    """One kind of model with its settings, elements, device and precision.

    A class that is built as ``Backend(settings, elements, device)``; see
    :mod:`fhi_al.models.registry` for how it is found and :mod:`fhi_al.models.conformance` for what
    it promises.
    """

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers the models know, sorted."""
        ...

    @property
    def r_max(self) -> float:
        """Cutoff radius in A."""
        ...

    @property
    def dtype(self) -> str:
        """Precision of training: ``float32`` or ``float64``."""
        ...

    def identity(self) -> dict[str, Any]:
        """What must be equal for weights to fit, as plain values."""
        ...

    def sample(self, geometry: Geometry) -> Sample | None:
        """A structure as batches take it; None if it is broken (see :class:`Prediction`)."""
        ...

    def label_sample(self, label: Label) -> Sample:
        """A label as training takes it; kept, so that it is made once.

        Raises
        ------
        ValueError
            If the label cannot be trained on.
        """
        ...

    def trainable(self, seed: int | None) -> TrainableModel:
        """A new model; the same weights for the same seed in every process.

        ``None`` gives arbitrary weights, for a state that is loaded next.
        """
        ...

    def inference(self, dtype: str | None = None) -> InferenceModel:
        """A model for weights that are loaded next, in a precision (None: that of training)."""
        ...

    def known_constants(
        self, atomic_energies: Mapping[int, float] | None
    ) -> NormalisationConstants | None:
        """Constants of a pretrained model that all members start from; None if there is none.

        Parameters
        ----------
        atomic_energies
            The user's E0s in eV by atomic number, in place of those of the model.
        """
        ...

    def fit_normalisation(
        self, labels: Sequence[Label], atomic_energies: Mapping[int, float] | None
    ) -> NormalisationConstants:
        """Constants of a training set.

        Parameters
        ----------
        labels
            At least one.
        atomic_energies
            The user's E0s in eV by atomic number, used as they are; None for averages.

        Raises
        ------
        ValueError
            If there is no label, or an element has no E0 among the user's.
        """
        ...

    def predict(
        self, models: Sequence[Any], samples: Sequence[Any], *, stress: bool = False
    ) -> list[Prediction]:
        """What models of one precision predict for each sample, all in one batch."""
        ...

    def errors(self, model: Any, batches: Sequence[Sequence[Any]]) -> ValidationErrors:
        """Errors of a model on labels, predicted a batch at a time.

        Labels of weight zero do not count; NaN if there is no other.
        """
        ...

    def energy_errors(self, model: Any, batches: Sequence[Sequence[Any]]) -> Array:
        """Predicted energies of labels minus their own, (n_labels,) in eV.

        NaN for labels of weight zero, which do not count.
        """
        ...

    def descriptors(self, model: Any, samples: Sequence[Any]) -> list[Array]:
        """Invariant features of each sample's atoms, (n_atoms, n_features), no unit."""
        ...

    def export(self, model: Any, path: Path) -> None:
        """Write a model for use elsewhere; `path` is either the old file or the whole new one."""
        ...

    def export_compiled(self, model: Any, path: Path) -> None:
        """The same, compiled.

        Raises
        ------
        RuntimeError
            If the model cannot be compiled.
        """
        ...


class Predictor(Protocol):
    """Predicts with the weights that validation uses, here or on several ranks."""

    @property
    def as_trained(self) -> Predictor:
        """The same models in the precision they are trained in: for errors that are reported."""
        ...

    def predict(
        self,
        geometries: Sequence[Geometry],
        members: Sequence[int] | None = None,
        *,
        stress: bool = False,
    ) -> list[Prediction]:
        """What members (None: all of them) predict for each structure, the stress if asked for.

        Structures may differ in their atoms.  The last bits of the numbers depend on which
        structures are predicted together.
        """
        ...
