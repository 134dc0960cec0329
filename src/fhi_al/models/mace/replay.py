"""Replay: what a foundation model knew, trained on along with a run's own labels.

Structures are labelled by the foundation model itself and stand among every batch, on a head of
their own with the foundation model's E0s, so that the run's own method need not agree with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.io import read
from numpy.typing import NDArray

from fhi_al.core.label import Label, Origin
from fhi_al.core.structure import geometry_key
from fhi_al.models.graphs import LabelGraph
from fhi_al.models.interface import NormalisationConstants
from fhi_al.models.torch_backend import TorchBackend
from fhi_al.models.torch_model import TorchInference, TorchModel

# MACE's name for the head of what a model was trained on before.
HEAD = "pt_head"
CONFIG_TYPE = "replay"
# Of the labels' keys, which of all others are hexadecimal digits.
_KEY = "replay "


def structures_of(path: Path, known: Sequence[int]) -> list[Atoms]:
    """The structures of a file for replay.

    Raises
    ------
    ValueError
        If they cannot be read, or have elements that the foundation model does not know.
    """
    try:
        found = read(path, index=":")
    except Exception as error:  # ASE's readers raise anything
        raise ValueError(
            f"{path}: no structures for replay ({type(error).__name__}: {error}). Expected extended"
            " xyz, or another format that ASE reads"
        ) from error
    unknown = {int(z) for atoms in found for z in atoms.numbers} - set(known)
    if unknown or not found:
        what = f"has atomic numbers {sorted(unknown)}" if unknown else "has no structures"
        raise ValueError(
            f"{path}: {what}: expected structures of elements that the members know. Take others"
            " out, or use foundation_elements: all"
        )
    return list(found)


def unlabelled(place: int, atoms: Atoms) -> Label:
    """A structure of a file as a label whose energy and forces are not known yet."""
    positions, cell = np.array(atoms.positions), np.array(atoms.cell)
    return Label(
        key=f"{_KEY}{place} {geometry_key(0, positions, cell)}",
        system=0,
        numbers=np.asarray(atoms.numbers, dtype=np.int64),
        positions=positions,
        cell=cell,
        pbc=bool(atoms.pbc.all()),
        energy=0.0,
        forces=np.zeros_like(positions),
        stress=None,
        origin=Origin(phase="imported", trajectory=0, step=0),
        given_config_type=CONFIG_TYPE,
    )


def judged_structures(
    backend: TorchBackend, judge: TorchInference, structures: Sequence[Atoms], *, stress: bool
) -> list[LabelGraph]:
    """Structures with what a model says of them, as batches take them.

    Raises
    ------
    ValueError
        If a structure has flown apart.
    """
    found = []
    for place, atoms in enumerate(structures):
        label = unlabelled(place, atoms)
        sample = backend.sample(label)
        if sample is None:
            raise ValueError(f"replay: structure {place} has flown apart. Take it out of the file")
        (said,) = backend.predict([judge], [sample], stress=stress)
        its_stress = said.stress[0] if said.stress is not None and label.pbc else None
        label = replace(label, energy=said.energies[0], forces=said.forces[0], stress=its_stress)
        found.append(backend.label_sample(label))
    return found


def is_replayed(label: Label) -> bool:
    """Whether a label is of a structure of replay."""
    return label.key.startswith(_KEY)


class ReplayModel(TorchModel):
    """A model in training that sees structures of replay in every step.

    Parameters
    ----------
    backend, module, normalisation
        See :class:`fhi_al.models.torch_model.TorchModel`.
    samples : sequence
        Of the structures, as batches take them.
    per_step : int
        How many of them a step takes, in turn, in an order that is drawn anew for each turn.
    seed : int
        Of the order.
    """

    def __init__(
        self,
        backend: Any,
        module: torch.nn.Module,
        normalisation: NormalisationConstants,
        samples: Sequence[Any],
        per_step: int,
        seed: int,
    ) -> None:
        super().__init__(backend, module, normalisation)
        self._samples = samples
        self._per_step = per_step
        self._seed = seed
        self._taken = 0
        # Seed and turn, and the order that follows from them.
        self._order: tuple[tuple[int, int], NDArray[np.int64]] | None = None

    def take_step(self, samples: Sequence[Any]) -> torch.Tensor | float:
        """See :meth:`fhi_al.models.interface.TrainableModel.take_step`."""
        chosen = [self._sample(self._taken + k) for k in range(self._per_step)]
        self._taken += self._per_step
        return super().take_step([*samples, *chosen])

    def _sample(self, place: int) -> Any:
        turn, within = divmod(place, len(self._samples))
        if self._order is None or self._order[0] != (self._seed, turn):
            drawn = np.random.default_rng((self._seed, turn)).permutation(len(self._samples))
            self._order = (self._seed, turn), drawn
        return self._samples[self._order[1][within]]

    def state(self) -> dict[str, Any]:
        """See :meth:`fhi_al.models.interface.TrainableModel.state`."""
        return {**super().state(), "replay": [self._seed, self._taken]}

    def load_state(self, state: dict[str, Any]) -> None:
        """See :meth:`fhi_al.models.interface.TrainableModel.load_state`."""
        super().load_state(state)
        # A model whose state is loaded next is built without its seed.
        self._seed, self._taken = state["replay"]
