"""The final best member against ``mace_run_train``'s full recipe on the same labels.

    python benchmarks/final_models.py [--folder DIR] [--systems ethanol diamond] [--epochs 150]
        [--seeds 1 2 3] [--report]

The best member at the end of active learning in runs of the examples (benchmarks/label_sets.py)
goes through the program's final convergence on all labels but its own validation points, from its
weights (``converge_from: current``) and from initial ones (``fresh``), with the program's defaults
for training.  ``mace_run_train`` trains on the same points, with the same network and all that its
full recipe has: moving average, stage two from three quarters on, ReduceLROnPlateau with its own
patience, to the last epoch.  Its batch size is the program's, all else its own default.  All are
judged on structures of an independent MD.  One thread; CPU seconds, those of ``mace_run_train``
with the start of its process, about ten.  Every result is kept, so that a killed benchmark goes on.
Writes final_models.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import subprocess
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from label_sets import (
    CASES,
    SEEDS,
    independent,
    labels_of,
    run_of,
    settings,
)
from train_member import converge, default_options

from fhi_al.active_learning.comparison import best_member
from fhi_al.core.label import Label
from fhi_al.labels.labelled_frames import read_labels
from fhi_al.labels.xyz import write_records
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.torch_set_up import torch_set_up
from fhi_al.storage.atomic_file import write_atomically

CURRENT, FRESH, THEIRS = "converge_from: current", "converge_from: fresh", "mace_run_train"


@dataclass(frozen=True)
class Best:
    """The best member when active learning ends: its model, and the sets it is converged on."""

    model: Path
    training: list[Label]
    validation: list[Label]


def best_of(folder: Path, name: str, seed: int) -> Best:
    """As the program finds it."""
    run = run_of(folder, name, seed)
    models = sorted((run / "model").glob("*.model"))
    elements = sorted(set(CASES[name].system.structure.numbers.tolist()))
    ensemble = Ensemble(settings(name, {}), elements, range(len(models)))
    for index, model in enumerate(models):
        member, data = ensemble.members[index], run / "data" / "final"
        member.load_exported(model)
        member.add_training(read_labels(data / "training" / f"{model.stem}.xyz"))
        member.add_validation(read_labels(data / "validation" / f"{model.stem}.xyz"))
    best = best_member(ensemble.members)
    validation = ensemble.members[best].validation
    keys = {label.key for label in validation}
    training = [label for label in labels_of(folder, name, seed) if label.key not in keys]
    return Best(models[best], training, validation)


def ours(folder: Path, name: str, seed: int, epochs: int, way: str) -> dict[str, Any]:
    """The program's final convergence of the best member."""
    best, values = best_of(folder, name, seed), settings(name, {})
    options = replace(default_options(values), max_epochs=epochs)
    sets, test = (best.training, best.validation), independent(folder, name)
    start = best.model if way == CURRENT else None
    found = converge(values, options, sets, test, 1000 * seed, start=start)
    return {key: found[key] for key in ("mae", "rmse_energy", "epochs", "seconds", "n_training")}


def theirs(folder: Path, name: str, seed: int, epochs: int) -> dict[str, Any]:
    """MACE's full recipe on the same points."""
    here = folder / "final" / f"{THEIRS}_{name}_{seed}"
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir(parents=True)
    best, values = best_of(folder, name, seed), CASES[name].mace_values()
    write_records(here / "training.xyz", best.training)
    write_records(here / "validation.xyz", best.validation)
    options = {
        **values["ARCHITECTURE"],
        "name": "theirs",
        "train_file": here / "training.xyz",
        "valid_file": here / "validation.xyz",
        "work_dir": here,
        "E0s": "average",
        "default_dtype": values["GENERAL"]["default_dtype"],
        "device": "cpu",
        "scaling": "rms_forces_scaling",
        "batch_size": settings(name, {}).training.batch_size,
        "valid_batch_size": 20,
        "max_num_epochs": epochs,
        "patience": epochs,
        "start_swa": 3 * epochs // 4,
        "eval_interval": 1,
        "energy_key": "REF_energy",
        "forces_key": "REF_forces",
        "plot": False,
        "seed": seed,
    }
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    begun = os.times()
    done = subprocess.run(
        ["mace_run_train", *words, "--ema", "--swa", "--amsgrad"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        cwd=here,
    )
    ended = os.times()
    (here / "output.txt").write_text(done.stdout + done.stderr)
    models = {path.stem: path for path in here.glob("*.model") if "compiled" not in path.stem}
    if not models:
        raise RuntimeError(f"mace_run_train did not train:\n{(done.stdout + done.stderr)[-2000:]}")
    test = independent(folder, name)
    return {
        "stages": {stem: errors_of(path, test) for stem, path in models.items()},
        "seconds": ended.children_user
        + ended.children_system
        - begun.children_user
        - begun.children_system,
        "epochs": epochs,
    }


def errors_of(model: Path, test: list[Label]) -> dict[str, float]:
    """Force MAE in eV/A and energy RMSE in eV/atom of a model file."""
    from mace.calculators import MACECalculator

    calculator = MACECalculator(model_paths=[str(model)], device="cpu", default_dtype="float64")
    forces, energies = [], []
    for label in test:
        atoms = Atoms(label.numbers, label.positions, cell=label.cell, pbc=label.pbc)
        atoms.calc = calculator
        energies.append((atoms.get_potential_energy() - label.energy) / len(atoms))
        forces.append(np.abs(atoms.get_forces() - label.forces).mean())
    rmse = float(np.sqrt(np.mean(np.square(energies))))
    return {"mae": float(np.mean(forces)), "rmse_energy": rmse}


def kept(file: Path, way: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """A result, computed now or before."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        found = way(*arguments)
        write_atomically(file, json.dumps(found).encode())
        print(f"{file.stem}: {found}", flush=True)
    return dict(json.loads(file.read_text()))


def file_of(folder: Path, way: str, name: str, seed: int) -> Path:
    """Where one result is kept."""
    return folder / "final" / f"{way.split()[-1]}_{name}_{seed}.json"


def compute(folder: Path, names: list[str], seeds: list[int], epochs: int) -> None:
    """The results that are not there yet; those from initial weights last."""
    for name, seed in product(names, seeds):
        kept(file_of(folder, CURRENT, name, seed), ours, folder, name, seed, epochs, CURRENT)
        kept(file_of(folder, THEIRS, name, seed), theirs, folder, name, seed, epochs)
    for name, seed in product(names, seeds):
        kept(file_of(folder, FRESH, name, seed), ours, folder, name, seed, epochs, FRESH)


def table(folder: Path, name: str) -> list[str]:
    """Errors and seconds of one system in Markdown; ratios to the better stage of theirs."""
    lines = [
        f"### {name}",
        "",
        "| way (seeds) | force MAE by seed, meV/A | energy RMSE by seed, meV/atom | CPU s | epochs "
        "| force MAE over mace_run_train's |",
        "|---|---|---|---|---|---|",
    ]
    reference: dict[int, float] = {}
    rows: dict[str, dict[int, dict[str, Any]]] = {}
    for way in (CURRENT, FRESH, THEIRS):
        files = {seed: file_of(folder, way, name, seed) for seed in SEEDS}
        found = {s: json.loads(f.read_text()) for s, f in files.items() if f.exists()}
        if way != THEIRS:
            rows[way] = found
            continue
        for stage in sorted({stage for one in found.values() for stage in one["stages"]}):
            rows[f"{way}, {stage}"] = {s: one | one["stages"][stage] for s, one in found.items()}
        for seed, one in found.items():
            reference[seed] = min(each["mae"] for each in one["stages"].values())
    for way, found in rows.items():
        columns = [
            [f"{1000 * one['mae']:.1f}" for one in found.values()],
            [f"{1000 * one['rmse_energy']:.2f}" for one in found.values()],
            [f"{one['seconds']:.0f}" for one in found.values()],
            [str(one["epochs"]) for one in found.values()],
            [f"{found[s]['mae'] / reference[s]:.2f}" for s in found if s in reference],
        ]
        seeds = ", ".join(map(str, found))
        lines.append(f"| {way} ({seeds}) | " + " | ".join(map(", ".join, columns)) + " |")
    return lines


def main() -> None:
    """Compute what is missing, then write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--folder", type=Path, default=Path("training"))
    parser.add_argument("--systems", nargs="+", choices=CASES, default=["ethanol", "diamond"])
    parser.add_argument("--seeds", type=int, nargs="+", choices=SEEDS, default=list(SEEDS))
    parser.add_argument("--epochs", type=int, default=150, help="at most, of each way")
    parser.add_argument("--report", action="store_true", help="of what is there; compute nothing")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if not given.report:
        with torch_set_up(1):
            compute(given.folder, given.systems, given.seeds, given.epochs)
    lines: list[str] = []
    for name in given.systems:
        lines += [*table(given.folder, name), ""]
    (given.folder / "final_models.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
