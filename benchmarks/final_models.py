"""The final best member against ``mace_run_train``'s full recipe on the same labels.

    python benchmarks/final_models.py [--folder DIR] [--systems ethanol diamond] [--epochs 400]
        [--variant NAME KEY=VALUE ...] [--report]

Runs of the examples up to the end of active learning (benchmarks/label_sets.py, three seeds) go on
to their final convergence of the best member, on one rank.  ``mace_run_train`` then trains on that
member's training and validation points, with the same network, E0s from the data, and all that its
full recipe has: moving average, stage two from three quarters on, ReduceLROnPlateau with its own
patience, to the last epoch.  Batch size, learning rate and clip_grad are the example's, the loss
weights MACE's own.  Both are judged on structures of an independent MD.  One thread; seconds are
of whole commands.  A variant is the program's way again with other settings.  Every result is kept,
so that a killed benchmark goes on.  Writes final_models.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from label_sets import CASES, SEEDS, independent, run_of, run_program

from fhi_al.core.label import Label
from fhi_al.storage.atomic_file import write_atomically

OURS, THEIRS = "final convergence", "mace_run_train"


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
    return {
        "mae": float(np.mean(forces)),
        "rmse_energy": float(np.sqrt(np.mean(np.square(energies)))),
    }


def ours(folder: Path, name: str, seed: int, changed: dict[str, Any], way: str) -> dict[str, Any]:
    """Go on with a copy of a run to the end of its convergence of the best member."""
    before = run_of(folder, name, seed)
    here = folder / "final" / f"{way.replace(' ', '_')}_{name}_{seed}"
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(before, here)
    file = here / "active_learning_settings.yaml"
    values = yaml.safe_load(file.read_text())
    values["ACTIVE_LEARNING"] |= {"converge_al": True, "converge_best": True} | {
        key: value for key, value in changed.items() if "." not in key
    }
    file.write_text(yaml.safe_dump(values))
    file = here / "mace_settings.yaml"
    mace = yaml.safe_load(file.read_text())
    for key, value in changed.items():
        section, _, rest = key.partition(".")
        if rest:
            mace[section][rest] = value
    file.write_text(yaml.safe_dump(mace))
    seconds = run_program(here)
    output = (here / "output.txt").read_text()
    member = int(re.findall(r"the best member is (\d+)", output)[-1])
    seeds = list(yaml.safe_load((here / "data" / "member_seeds.yaml").read_text()).values())
    epochs = int(re.findall(r"final convergence ends after (\d+) epochs", output)[-1])
    model = here / "model" / f"{name}_{seeds[member]}.model"
    found = errors_of(model, independent(folder, name))
    return found | {"seconds": seconds, "epochs": epochs, "member": model.stem}


def theirs(folder: Path, name: str, seed: int, member: str, epochs: int) -> dict[str, Any]:
    """MACE's full recipe on the same points."""
    data = folder / "final" / f"{OURS.replace(' ', '_')}_{name}_{seed}" / "data" / "final"
    here = folder / "final" / f"{THEIRS}_{name}_{seed}"
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir(parents=True)
    values = CASES[name].mace_values()
    network = values["ARCHITECTURE"]
    options = {
        "name": "theirs",
        "train_file": data / "training" / f"{member}.xyz",
        "valid_file": data / "validation" / f"{member}.xyz",
        "work_dir": here,
        "E0s": "average",
        "default_dtype": values["GENERAL"]["default_dtype"],
        "device": "cpu",
        **{key: network[key] for key in network},
        "num_radial_basis": 8,
        "scaling": "rms_forces_scaling",
        "batch_size": values["TRAINING"].get("batch_size", 10),
        "valid_batch_size": 20,
        "lr": values["TRAINING"].get("lr", 0.01),
        "clip_grad": 10.0,
        "max_num_epochs": epochs,
        "patience": epochs,
        "start_swa": 3 * epochs // 4,
        "eval_interval": 1,
        "energy_key": "REF_energy",
        "forces_key": "REF_forces",
        "ema_decay": 0.99,
        "plot": False,
        "seed": seed,
    }
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    begun = time.perf_counter()
    done = subprocess.run(
        ["mace_run_train", *words, "--ema", "--swa", "--amsgrad"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        cwd=here,
    )
    seconds = time.perf_counter() - begun
    (here / "output.txt").write_text(done.stdout + done.stderr)
    models = {
        path.stem: path for path in here.rglob("theirs*.model") if "compiled" not in path.stem
    }
    if not models:
        raise RuntimeError(f"mace_run_train did not train:\n{(done.stdout + done.stderr)[-2000:]}")
    test = independent(folder, name)
    found = {stem: errors_of(path, test) for stem, path in models.items()}
    return {"stages": found, "seconds": seconds, "epochs": epochs}


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
    return folder / "final" / f"{way.replace(' ', '_')}_{name}_{seed}.json"


def compute(
    folder: Path, names: list[str], epochs: int, variants: dict[str, dict[str, Any]]
) -> None:
    """The results that are not there yet."""
    for name, seed in product(names, SEEDS):
        mine = kept(file_of(folder, OURS, name, seed), ours, folder, name, seed, {}, OURS)
        for way, changed in variants.items():
            kept(file_of(folder, way, name, seed), ours, folder, name, seed, changed, way)
        file = file_of(folder, THEIRS, name, seed)
        kept(file, theirs, folder, name, seed, mine["member"], epochs)


def table(folder: Path, name: str) -> list[str]:
    """Errors and seconds of one system in Markdown; the better stage of ``mace_run_train``."""
    lines = [
        f"### {name}",
        "",
        "| way | force MAE by seed, meV/A | energy RMSE by seed, meV/atom | seconds | epochs "
        "| force MAE over mace_run_train's |",
        "|---|---|---|---|---|---|",
    ]
    names = sorted(
        {re.sub(rf"_{name}_\d$", "", f.stem) for f in folder.glob(f"final/*_{name}_?.json")}
    )
    reference: dict[int, float] = {}
    rows: dict[str, dict[int, dict[str, Any]]] = {}
    for way in names:
        files = {seed: folder / "final" / f"{way}_{name}_{seed}.json" for seed in SEEDS}
        found = {s: json.loads(f.read_text()) for s, f in files.items() if f.exists()}
        if way != THEIRS:
            rows[way.replace("_", " ")] = found
            continue
        for stage in sorted({stage for one in found.values() for stage in one["stages"]}):
            rows[f"{way}, {stage}"] = {s: one | one["stages"][stage] for s, one in found.items()}
        for seed, one in found.items():
            reference[seed] = min(each["mae"] for each in one["stages"].values())
    for way, found in rows.items():
        ratios = [found[s]["mae"] / reference[s] for s in found if s in reference]
        columns = [
            [f"{1000 * one['mae']:.1f}" for one in found.values()],
            [f"{1000 * one['rmse_energy']:.2f}" for one in found.values()],
            [f"{one['seconds']:.0f}" for one in found.values()],
            [str(one["epochs"]) for one in found.values()],
            [f"{ratio:.2f}" for ratio in ratios],
        ]
        lines.append(f"| {way} | " + " | ".join(", ".join(column) for column in columns) + " |")
    return lines


def _variant(words: list[str]) -> tuple[str, dict[str, Any]]:
    changed = (word.split("=", 1) for word in words[1:])
    return words[0], {key: yaml.safe_load(value) for key, value in changed}


def main() -> None:
    """Compute what is missing, then write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--folder", type=Path, default=Path("training"))
    parser.add_argument("--systems", nargs="+", choices=CASES, default=["ethanol", "diamond"])
    parser.add_argument("--epochs", type=int, default=400, help="of mace_run_train")
    parser.add_argument(
        "--variant",
        nargs="+",
        action="append",
        default=[],
        metavar="NAME KEY=VALUE",
        help="keys of ACTIVE_LEARNING, or TRAINING.key",
    )
    parser.add_argument("--report", action="store_true", help="of what is there; compute nothing")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if not given.report:
        variants = dict(_variant(words) for words in given.variant)
        compute(given.folder, given.systems, given.epochs, variants)
    lines: list[str] = []
    for name in given.systems:
        lines += [*table(given.folder, name), ""]
    (given.folder / "final_models.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
