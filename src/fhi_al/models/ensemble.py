"""The ensemble: its members, their predictions together, their files and states.

Owns what the members share: the backend, which keeps the graphs of labels, what predicts with all
of them, and the descriptors.  Knows nothing of MPI, MD or when to train.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fhi_al.core.structure import Array
from fhi_al.models.descriptors import Descriptors
from fhi_al.models.evaluation import InferenceCopy
from fhi_al.models.file_names import member_model, with_compiled
from fhi_al.models.interface import (
    Geometry,
    InferenceModel,
    ModelBackend,
    Prediction,
    Predictor,
)
from fhi_al.models.member import Member
from fhi_al.models.predictor import LocalPredictor
from fhi_al.models.registry import new_backend
from fhi_al.models.state_bytes import packed, unpacked


class Ensemble:
    """Several models of one kind and architecture, each with its own seed and data.

    Parameters
    ----------
    settings
        The settings of mace_settings.yaml (sections general, architecture, training, misc).
    elements
        Atomic numbers of all systems.
    seeds
        One for each member.
    device
        On which the models live; None for ``MISC.device``.

    Attributes
    ----------
    backend : ModelBackend
        The kind of the models, from ``settings.backend_class``.
    members : list of Member
    descriptors : Descriptors

    Raises
    ------
    ValueError
        If there is no such backend, or it refuses a setting.

    Notes
    -----
    Building is lazy: models are made when they are first needed, of MACE about 1.5 s for the first
    and 0.2 s (weights loaded) to 0.8 s (fresh weights) for each further one.
    """

    def __init__(
        self,
        settings: Any,
        elements: Iterable[int],
        seeds: Sequence[int],
        device: str | None = None,
    ) -> None:
        self.settings = settings
        self.backend: ModelBackend = new_backend(settings, tuple(elements), device)
        self.members = [Member(k, int(s), self.backend, settings) for k, s in enumerate(seeds)]
        self._predictor = LocalPredictor(
            self.backend, lambda index: self.members[index].inference_model, len(self.members)
        )
        # The first member's; any member's would do, see Descriptors.
        self.descriptors = Descriptors(self.backend, lambda: self.members[0].inference_model)

    def __len__(self) -> int:
        return len(self.members)

    def build(self) -> None:
        """Build the models that have not been built yet."""
        for member in self.members:
            member.build()

    @property
    def can_be_trained(self) -> bool:
        """Whether every member has labels to train on and labels to validate on."""
        return all(member.training and member.validation for member in self.members)

    @property
    def r_max(self) -> float:
        """Cutoff radius in A."""
        return self.backend.r_max

    @property
    def version(self) -> tuple[int, ...]:
        """Differs whenever a prediction may differ: what caches forces must look at it."""
        return tuple(member.version for member in self.members)

    def energies_and_forces(
        self, geometry: Geometry, members: Sequence[int] | None = None
    ) -> tuple[Array, Array]:
        """Predictions of all members, or of some, with the weights that validation uses.

        Parameters
        ----------
        geometry
            Anything with numbers, positions (A), cell (A) and pbc.
        members
            Indices; None for all.

        Returns
        -------
        energies : (n_members,)
            In eV.
        forces : (n_members, n_atoms, 3)
            In eV/A.  All NaN, without a call of the models, if a position is not finite or a
            molecule has flown apart by more than 200 A.
        """
        (found,) = self.predict([geometry], members)
        return found.energies, found.forces

    @property
    def as_trained(self) -> Ensemble:
        """See :attr:`fhi_al.models.interface.Predictor.as_trained`."""
        return self

    def predict(
        self,
        geometries: Sequence[Geometry],
        members: Sequence[int] | None = None,
        *,
        stress: bool = False,
    ) -> list[Prediction]:
        """See :meth:`fhi_al.models.predictor.LocalPredictor.predict`."""
        return self._predictor.predict(geometries, members, stress=stress)

    def predictor(self, dtype: str) -> Predictor:
        """Predicts in a precision; the ensemble itself if that is the precision of training."""
        if dtype == self.backend.dtype:
            return self
        copies = [InferenceCopy(dtype) for _ in self.members]

        def model(index: int) -> InferenceModel:
            member = self.members[index]
            weights = member.inference_model.weights
            return copies[index].at(member.version, weights, self.backend)

        return LocalPredictor(self.backend, model, len(self), self)

    def model_paths(self, folder: Path, name: str) -> list[Path]:
        """Where :meth:`export` writes the members' models."""
        return [member_model(folder, name, member.seed) for member in self.members]

    def export(self, folder: Path, name: str, members: Sequence[int] | None = None) -> list[Path]:
        """Write members' models (None: all) for use elsewhere; returns the files.

        Each file is replaced at once: a reader sees the old model or the new one.
        """
        every = self.model_paths(folder, name)
        chosen = range(len(self)) if members is None else members
        for index in chosen:
            self.backend.export(self.members[index].inference_model, every[index])
        return [every[index] for index in chosen]

    def export_compiled(self, folder: Path, name: str) -> list[Path]:
        """Write the members' models compiled (MACE: TorchScript, as its training command does).

        Returns
        -------
        list of Path
            ``NAME_SEED_compiled.model`` in `folder`.

        Raises
        ------
        RuntimeError
            If models of this kind cannot be compiled.
        """
        paths = [with_compiled(path) for path in self.model_paths(folder, name)]
        for member, path in zip(self.members, paths, strict=True):
            self.backend.export_compiled(member.inference_model, path)
        return paths

    def load_exported(self, path: Path, member: int) -> None:
        """See :meth:`fhi_al.models.member.Member.load_exported`."""
        self.members[member].load_exported(path)

    def state_bytes(self) -> dict[str, bytes]:
        """Each member's state as the bytes of a file, by file name."""
        return {state_name(member.index): packed(member.state()) for member in self.members}

    def load_state_bytes(self, states: Mapping[str, bytes]) -> None:
        """Put the states of :meth:`state_bytes` back; give the members their labels first.

        Raises
        ------
        ValueError
            If a member's state is missing or does not fit, see :meth:`Member.load_state`.
        """
        for member in self.members:
            name = state_name(member.index)
            if name not in states:
                raise ValueError(f"no state {name} of member {member.index}")
            member.load_state(unpacked(states[name]))


def state_name(index: int) -> str:
    return f"member_{index}.pt"


def device_problem(device: str) -> str | None:
    """Why torch cannot use a device here, without naming the key, or None.

    Parameters
    ----------
    device
        ``cpu``, ``cuda``, ``cuda:1``, ``mps`` or ``xpu``.
    """
    kind, _, place = device.partition(":")
    backends: dict[str, Callable[[], int]] = {
        "cpu": lambda: 1,
        "cuda": lambda: torch.cuda.device_count(),
        "mps": lambda: int(torch.backends.mps.is_available()),
        "xpu": lambda: torch.xpu.device_count() if hasattr(torch, "xpu") else 0,
    }
    if kind not in backends or (place and not place.isdigit()):
        return f"{device}: unknown device. Use cpu, cuda, cuda:N, mps or xpu."
    n_devices = backends[kind]()
    if n_devices == 0:
        return f"torch {torch.__version__} finds no {kind} device here. Use cpu."
    if place and int(place) >= n_devices:
        return f"torch finds {n_devices} {kind} device(s), counted from 0."
    return None
