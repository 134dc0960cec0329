"""Runs of the program on a small foundation model and without, and what their models are worth.

The foundation model is that of the tests: it knows neither ethanol nor any molecule in which N and
O occur together, as they do in acetamide.  It was trained on GFN1-xTB; the reference is GFN2-xTB.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from ase import Atoms
from label_sets import run_program
from mace.calculators import MACECalculator
from selection_systems import Array, System, labelled, sampled
from tblite.ase import TBLite

from fhi_al.core.label import Label
from fhi_al.core.uncertainty import MEASURES, force_error
from fhi_al.labels.labelled_frames import read_labels
from fhi_al.models.mace.exports import read_exported
from fhi_al.models.mace.foundation import Foundation, foundation
from fhi_al.storage.atomic_file import write_atomically

FOUNDATION = Path(__file__).parents[1] / "tests" / "foundation"
SYSTEMS = {
    "ethanol": System("ethanol", "GFN2-xTB", 500.0, 0.5, 4.5),
    "acetamide": System("acetamide", "GFN2-xTB", 500.0, 0.5, 4.5),
}
LEARNT_METHOD = "GFN1-xTB"  # by the foundation model
HOT = 2.0  # times the system's temperature, for structures that the models know less well
WEIGHTS = FOUNDATION / "small_foundation.npz"
MODEL = "small_foundation.model"
MEASURE = MEASURES["max_atomic_sd"]
N_MEMBERS = 3
N_SAMPLES = 2  # points of each member in the first round of the initial dataset
# Of a convergence: epochs times labels, and epochs.
MOST_LABEL_EPOCHS, MOST_EPOCHS = 6400, 300
BASE: dict[str, Any] = {
    "reference_engine": "tblite",
    # Out of reach: the number of labels ends the run.  The initial dataset ends at ten times that.
    "desired_acc": 0.005,
    "lambda": 10.0,
    # What there is without a reference calculation: every run begins with its structures.
    "initial_sampling": "foundation",
    "foundation_model": MODEL,
    "n_samples": N_SAMPLES,
    "skip_step_initial": 20,
    "max_initial_epochs": 200,
    # Of six points an epoch is one step: random weights would drive MD to fragments.
    "converge_initial": True,
    "max_epochs_worker": 5,
    "num_trajectories": 4,
    "max_MD_steps": 100_000,
    # 25 fs: 16 labels within 0.3 ps of each other say too little of the rest.
    "skip_step_mlff": 50,
    # Models learn fast of few labels: what they said of structures before counts no more.
    "threshold_window": 40,
    "valid_skip": 5,
    "analysis": False,
    "converge_al": True,
    "converge_best": False,
    "final_test": 0,  # all labels are to learn from
}
NO_INITIAL_DATASET = {"initial_sampling": "none"}


@dataclass(frozen=True)
class Way:
    """How models come about.

    Parameters
    ----------
    fine_tuned : bool
        From the foundation model; else from initial weights of the same network.
    active_learning, training : dict
        Keys that differ from the benchmark's.
    n_members : int
    """

    fine_tuned: bool = True
    active_learning: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    n_members: int = N_MEMBERS

    def takes(self, n_labels: int) -> bool:
        """Whether so many labels are more than the first round of the initial dataset."""
        none = self.active_learning.get("initial_sampling") == "none"
        return none or n_labels > N_SAMPLES * self.n_members


@dataclass(frozen=True)
class Size:
    """How much is computed.

    Parameters
    ----------
    test : (int, int, int, int)
        Trajectories of the independent MD, frames of each, steps between two, steps before.
    most_epochs : int
        Of a convergence.
    changed : dict
        Keys of ACTIVE_LEARNING in all runs.
    """

    test: tuple[int, int, int, int] = (4, 50, 40, 1000)
    most_epochs: int = MOST_EPOCHS
    changed: dict[str, Any] = field(default_factory=dict)


QUICK = Size((1, 6, 20, 100), 4, {"max_initial_epochs": 4, "max_epochs_worker": 2})


def write_run_folder(
    folder: Path, system: System, way: Way, n_labels: int, seed: int, size: Size
) -> None:
    """The input files of a run that ends with `n_labels` labels."""
    epochs = min(size.most_epochs, MOST_LABEL_EPOCHS // n_labels)
    content = BASE | {
        "reference_method": system.method,
        "label_budget": n_labels,
        "ensemble_size": way.n_members,
        "max_final_epochs": epochs,
        "patience": max(1, epochs // 3),
    }
    content |= size.changed | way.active_learning
    if content["initial_sampling"] == "none":
        del content["foundation_model"], content["converge_initial"]
    settings = {
        "ACTIVE_LEARNING": content,
        "MD": {
            "stat_ensemble": "NVT",
            "thermostat": "Langevin",
            "temperature": system.temperature,
            "timestep": system.timestep,
            "friction": 0.01,
            "seed": 100 + seed,
        },
    }
    start = {"foundation_model": MODEL} if way.fine_tuned else small_foundation().architecture
    mace = {
        "GENERAL": {"name_exp": system.name, "default_dtype": "float32", "seed": seed},
        "ARCHITECTURE": start,
        "TRAINING": {"valid_batch_size": 20} | way.training,
    }
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(small_foundation().model, folder / MODEL)
    (folder / "active_learning_settings.yaml").write_text(yaml.safe_dump(settings))
    (folder / "mace_settings.yaml").write_text(yaml.safe_dump(mace))
    of_system = system.structure
    Atoms(of_system.numbers, of_system.positions).write(folder / "geometry.in", format="aims")


def small_foundation() -> Foundation:
    """The foundation model, whose network is also that of the models that start without it."""
    return foundation(str(WEIGHTS))


def finished_run(
    folder: Path, system: System, way: Way, n_labels: int, seed: int, size: Size
) -> dict[str, Any]:
    """Run the program, and judge the models it ends with.

    Returns
    -------
    dict
        ``labels`` that were computed, ``cpu`` seconds of the run, and those of :func:`judged`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    write_run_folder(folder, system, way, n_labels, seed, size)
    begun = os.times()
    run_program(folder)
    ended = os.times()
    output = (folder / "output.txt").read_text()
    models = sorted((folder / "model").glob("*.model"))
    sets = test_sets(folder.parents[2], system, size.test)
    return {
        "labels": int(re.findall(r"summary: labels: (\d+) computed", output)[-1]),
        "cpu": ended.children_user - begun.children_user,
        **judged([read_exported(path) for path in models], sets),
    }


def judged(models: Sequence[Any], sets: dict[str, list[Label]]) -> dict[str, Any]:
    """Errors of an ensemble on sets of structures, and how far its members differ.

    Parameters
    ----------
    models
        As MACE saves them.
    sets : dict
        By name.

    Returns
    -------
    dict
        By the set's name: ``mae`` (of the mean force) and ``members`` (of each), in eV/A;
        ``pairs``: the largest spread of the members' forces on an atom of each structure, and the
        largest error of the mean force, as the program's sanity checks have them.
    """
    calculator = MACECalculator(models=list(models), device="cpu", default_dtype="float64")
    known = set(calculator.z_table.zs)
    found: dict[str, Any] = {}
    for name, labels in sets.items():
        of_mean, of_members, pairs = [], [], []
        for label in (label for label in labels if set(label.numbers.tolist()) <= known):
            forces = _member_forces(calculator, label)
            of_mean.append(np.abs(forces.mean(axis=0) - label.forces).mean())
            of_members.append(np.abs(forces - label.forces).mean(axis=(1, 2)))
            error = force_error(forces.mean(axis=0), label.forces, MEASURE)
            pairs.append((float(MEASURE(forces)), float(error)))
        found[name] = {
            "mae": float(np.mean(of_mean)),
            "members": np.mean(of_members, axis=0).tolist(),
            "pairs": pairs,
        }
    return found


def learnt_method(labels: Sequence[Label]) -> float:
    """Force MAE, in eV/A, of the method that the foundation model learnt, for molecules.

    It is what a perfect foundation model would begin with.
    """
    errors = []
    for label in labels:
        atoms = Atoms(label.numbers, label.positions)
        atoms.calc = TBLite(method=LEARNT_METHOD, verbosity=0)
        errors.append(np.abs(atoms.get_forces() - label.forces).mean())
    return float(np.mean(errors))


def _member_forces(calculator: MACECalculator, label: Label) -> Array:
    """(n_members, n_atoms, 3) in eV/A."""
    atoms = Atoms(label.numbers, label.positions, cell=label.cell, pbc=label.pbc)
    calculator.calculate(atoms)
    every = calculator.results.get("forces_comm", calculator.results["forces"])
    found: Array = np.asarray(every, dtype=float).reshape(-1, len(atoms), 3)
    return found


@cache
def test_sets(
    folder: Path, system: System, test: tuple[int, int, int, int]
) -> dict[str, list[Label]]:
    """Structures of the system's MD, of hotter MD, and of what the foundation model knew."""
    return {
        "test": independent(folder, system, system.temperature, test),
        "hot": independent(folder, system, HOT * system.temperature, test),
        "known": read_labels(FOUNDATION / "known_structures.xyz"),
    }


def independent(
    folder: Path, system: System, temperature: float, test: tuple[int, int, int, int]
) -> list[Label]:
    """Labelled structures of MD with the reference method that no run has seen."""
    file = folder / f"test_{system.name}_{temperature:g}K.json"
    if not file.exists():
        n_trajectories, n_frames, stride, n_before = test
        frames: list[Array] = []
        for seed in range(n_trajectories):
            md, reference = system.md(temperature), system.reference()
            frames += sampled(md, reference, n_frames, stride, 900 + seed, n_before)
        write_atomically(file, json.dumps([frame.tolist() for frame in frames]))
    return labelled(system, [np.array(frame) for frame in json.loads(file.read_text())])
