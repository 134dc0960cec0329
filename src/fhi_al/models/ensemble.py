"""The ensemble: its members, their predictions together, their files and states.

Owns what the members share: the architecture, the graphs of labels, the graph of the structure
being predicted.  Knows nothing of MPI, MD or when to train.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fhi_al.core.structure import Array, Structure
from fhi_al.models.descriptors import Descriptors
from fhi_al.models.mace.compiled import export_compiled
from fhi_al.models.mace.data import GraphStore
from fhi_al.models.mace.model import ModelFactory, export_model, read_exported
from fhi_al.models.mace.prediction import Geometry
from fhi_al.models.member import Member
from fhi_al.models.predictor import LocalPredictor, Prediction
from fhi_al.models.state_bytes import packed, unpacked


class Ensemble:
    """Several MACE models of one architecture, each with its own seed and data.

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
    members : list of Member
    descriptors : Descriptors

    Raises
    ------
    ValueError
        If MACE refuses a setting.

    Notes
    -----
    Building is lazy: models are made when they are first needed, about 1.5 s for the first and
    0.2 s (weights loaded) to 0.8 s (fresh weights) for each further one.
    """

    def __init__(
        self,
        settings: Any,
        elements: Iterable[int],
        seeds: Sequence[int],
        device: str | None = None,
    ) -> None:
        self.factory = ModelFactory(settings, tuple(int(number) for number in elements), device)
        store = GraphStore(self.factory)
        self.members = [Member(k, int(s), self.factory, store) for k, s in enumerate(seeds)]
        self._predictor = LocalPredictor(
            self.factory,
            lambda index: self.members[index].inference_model,
            self.factory.dtype,
            len(self.members),
        )
        # The first member's; any member's would do, see Descriptors.
        self.descriptors = Descriptors(self.factory, lambda: self.members[0].inference_model, store)

    def __len__(self) -> int:
        return len(self.members)

    def build(self) -> None:
        """Build the models that have not been built yet."""
        for member in self.members:
            member.build()

    @property
    def r_max(self) -> float:
        """Cutoff radius in A."""
        return self.factory.r_max

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
        """See :attr:`fhi_al.models.predictor.Predictor.as_trained`."""
        return self

    def predict(
        self, geometries: Sequence[Geometry], members: Sequence[int] | None = None
    ) -> list[Prediction]:
        """See :meth:`fhi_al.models.predictor.Predictor.predict`."""
        return self._predictor.predict(geometries, members)

    def forces(
        self, system: Structure, positions: Array | None = None, cell: Array | None = None
    ) -> Array:
        """Forces of every member, (n_members, n_atoms, 3) in eV/A.

        Parameters
        ----------
        system : Structure
        positions : (n_atoms, 3), optional
            In A, instead of those of `system`.
        cell : (3, 3), optional
            In A, instead of that of `system`.
        """
        moved = replace(
            system,
            positions=system.positions if positions is None else positions,
            cell=system.cell if cell is None else cell,
        )
        return self.energies_and_forces(moved)[1]

    def member_forces(self, index: int, geometry: Geometry) -> Array:
        """Forces of one member, (n_atoms, 3) in eV/A."""
        forces: Array = self.energies_and_forces(geometry, [index])[1][0]
        return forces

    def model_paths(self, folder: Path, name: str) -> list[Path]:
        """Where :meth:`export` writes the members' models."""
        return [folder / f"{name}_{member.seed}.model" for member in self.members]

    def export(self, folder: Path, name: str, members: Sequence[int] | None = None) -> list[Path]:
        """Write members' models (None: all) for MACE's own calculator; returns the files.

        Each file is replaced at once: a reader sees the old model or the new one.
        """
        every = self.model_paths(folder, name)
        chosen = range(len(self)) if members is None else members
        for index in chosen:
            export_model(self.members[index].inference_model, every[index])
        return [every[index] for index in chosen]

    def export_compiled(self, folder: Path, name: str) -> list[Path]:
        """Write the members' models as TorchScript, as MACE's training command does.

        Returns
        -------
        list of Path
            ``NAME_SEED_compiled.model`` in `folder`.
        """
        paths = [with_compiled(path) for path in self.model_paths(folder, name)]
        for member, path in zip(self.members, paths, strict=True):
            export_compiled(member.inference_model, path)
        return paths

    def load_exported(self, path: Path, member: int) -> None:
        """Give a member the weights of a .model file: fitted, frozen, with a fresh optimizer.

        The file is a pickle and runs code when read: only for files of the user's own.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no such file, it is no MACE model, or it does not fit the settings.
        """
        self.members[member].adopt(read_exported(path), str(path))

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


def with_compiled(path: Path) -> Path:
    """Where the compiled form of a model is written: MACE's own naming."""
    return path.with_name(f"{path.stem}_compiled{path.suffix}")


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
