"""Small real models and labels for the tests of ``fhi_al.models``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase.build import molecule

from fhi_al.core.label import Label, Origin
from fhi_al.core.structure import geometry_key
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.mace.backend import MaceBackend
from fhi_al.settings.architecture import Architecture
from fhi_al.settings.mace import General, MaceSettings, Misc, Training

SEEDS = (11, 22)
ELEMENTS = (1, 8)


def settings(**changes: Any) -> MaceSettings:
    """Settings of a small model; `changes` are keys of any section."""
    values: dict[str, dict[str, Any]] = {
        "general": {"default_dtype": "float64"},
        "architecture": {
            "r_max": 4.0,
            "num_channels": 8,
            "max_L": 0,
            "max_ell": 2,
            "correlation": 2,
            "radial_MLP": [16, 16],
            "MLP_irreps": "8x0e",
        },
        "training": {"batch_size": 5, "ema": True},
        "misc": {"num_threads": 1},
    }
    for key, value in changes.items():
        section = next(
            name
            for name, model in (
                ("general", General),
                ("architecture", Architecture),
                ("training", Training),
                ("misc", Misc),
            )
            if key in model.model_fields
        )
        values[section][key] = value
    return MaceSettings.model_validate(values)


_BUILT: dict[str, MaceBackend] = {}


def built_once(made: Ensemble) -> Ensemble:
    """Let MACE models have the compiled code of the first that were built with their architecture.

    Compiling it takes most of the time of building a model.  A backend compiles it once and copies
    the result for each of its members; here, for each ensemble of the process.
    """
    backend = made.backend
    # What begins as a foundation model depends on more.
    if isinstance(backend, MaceBackend) and backend.foundation is None:
        of = backend.settings
        choices = (of.architecture, of.general, of.training.loss, of.misc.device, backend.elements)
        first = _BUILT.setdefault(repr(choices), backend)
        backend._template, backend._template_seed = first._template, first._template_seed
    return made


def ensemble(labels: list[Label], seeds: tuple[int, ...] = SEEDS, **changes: Any) -> Ensemble:
    """An ensemble of small models: the last four labels validate, the others train."""
    made = built_once(Ensemble(settings(**changes), ELEMENTS, seeds))
    for member in made.members:
        member.add_training(labels[:-4])
        member.add_validation(labels[-4:])
    return made


def fitted(labels: list[Label], seeds: tuple[int, ...] = SEEDS, **changes: Any) -> Ensemble:
    """The same, with the statistics of the training sets."""
    made = ensemble(labels, seeds, **changes)
    for member in made.members:
        member.fit_normalisation()
    return made


def water_labels(n_labels: int) -> list[Label]:
    """Distorted water molecules labelled with GFN2-xTB."""
    from tblite.ase import TBLite

    random = np.random.default_rng(5)
    labels = []
    for step in range(n_labels):
        atoms = molecule("H2O")
        atoms.positions += random.normal(0, 0.08, atoms.positions.shape)
        atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
        labels.append(label(atoms, atoms.get_potential_energy(), atoms.get_forces(), step))
    return labels


def label(atoms: Any, energy: float, forces: Any, step: int = 0, **changes: Any) -> Label:
    """A label of ASE atoms."""
    cell = np.array(atoms.cell)
    values: dict[str, Any] = {
        "key": geometry_key(0, atoms.positions, cell),
        "system": 0,
        "numbers": atoms.numbers.copy(),
        "positions": atoms.positions.copy(),
        "cell": cell,
        "pbc": bool(atoms.pbc.any()),
        "energy": float(energy),
        "forces": np.array(forces),
        "stress": None,
        "origin": Origin("initial", 0, step),
    }
    return Label(**{**values, **changes})


def save_labels(path: Path, labels: list[Label]) -> None:
    """Write labels of one molecule so that not a bit is lost."""
    np.savez(
        path,
        numbers=labels[0].numbers,
        positions=np.array([label.positions for label in labels]),
        energies=np.array([label.energy for label in labels]),
        forces=np.array([label.forces for label in labels]),
    )


def load_labels(path: Path) -> list[Label]:
    """Read what :func:`save_labels` wrote."""
    from ase import Atoms

    with np.load(path) as saved:
        return [
            label(Atoms(saved["numbers"], positions), energy, forces, step)
            for step, (positions, energy, forces) in enumerate(
                zip(saved["positions"], saved["energies"], saved["forces"], strict=True)
            )
        ]
