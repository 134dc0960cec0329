"""Labels that whole runs of the program chose, and independent structures to judge models by.

Each set is of a run of an example with another seed, up to the end of active learning, which the
folder keeps: made once, and the same for every way of training that is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from selection_systems import System, labelled, reference_md

from fhi_al.core.label import Label
from fhi_al.labels.labelled_frames import read_labels
from fhi_al.settings.mace import MaceSettings
from fhi_al.storage.atomic_file import write_atomically

EXAMPLES = Path(__file__).parents[1] / "examples"
SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Case:
    """A system whose labels are chosen by a run of an example.

    Parameters
    ----------
    system : System
    example : str
        Folder in examples/.
    test : (int, int, int, int)
        Trajectories of the independent MD, frames of each, steps between two, steps before.
    changed : dict
        Settings that differ from the example's, by section.
    """

    system: System
    example: str
    test: tuple[int, int, int, int]
    changed: dict[str, dict[str, Any]]

    def mace_values(self) -> dict[str, dict[str, Any]]:
        """What stands in the run's mace_settings.yaml, by section."""
        return self._values("mace_settings.yaml")

    def _values(self, file: str) -> dict[str, dict[str, Any]]:
        values: dict[str, dict[str, Any]] = yaml.safe_load(
            (EXAMPLES / self.example / file).read_text()
        )
        return {name: keys | self.changed.get(name, {}) for name, keys in values.items()}

    def write_run_folder(self, folder: Path, seed: int, **changed: Any) -> None:
        """The input files of a run with a seed; `changed` are keys of ACTIVE_LEARNING."""
        folder.mkdir(parents=True, exist_ok=True)
        settings = self._values("active_learning_settings.yaml")
        settings["ACTIVE_LEARNING"] |= changed
        settings["MD"]["seed"] = 41 + seed
        mace = self.mace_values()
        mace["GENERAL"]["seed"] = seed
        (folder / "active_learning_settings.yaml").write_text(yaml.safe_dump(settings))
        (folder / "mace_settings.yaml").write_text(yaml.safe_dump(mace))
        start = self.system.structure
        Atoms(start.numbers, start.positions, cell=start.cell, pbc=start.pbc).write(
            folder / "geometry.in", format="aims"
        )


CASES = {
    "ethanol": Case(
        System("ethanol", "GFN2-xTB", 500.0, 0.5, 5.0), "ethanol", (4, 25, 80, 1000), {}
    ),
    "methanol": Case(
        System("methanol", "GFN2-xTB", 500.0, 0.5, 5.0),
        "ethanol",
        (4, 25, 80, 1000),
        {"ACTIVE_LEARNING": {"label_budget": 40}, "ARCHITECTURE": {"num_channels": 16}},
    ),
    "diamond": Case(
        System("diamond", "GFN1-xTB", 600.0, 1.0, 3.8), "diamond", (4, 20, 20, 200), {}
    ),
}


def run_program(folder: Path, n_ranks: int = 1) -> float:
    """Run what is in a folder, or go on with it; seconds.

    Raises
    ------
    RuntimeError
        If it fails, with the end of its output.
    """
    begun = time.perf_counter()
    with (folder / "output.txt").open("ab") as output:
        done = subprocess.run(
            ["mpirun", "-n", str(n_ranks), "FHI_AL", "--workdir", str(folder)],
            stdout=output,
            stderr=output,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    if done.returncode != 0:
        raise RuntimeError(
            f"the run in {folder} failed: {(folder / 'output.txt').read_text()[-2000:]}"
        )
    return time.perf_counter() - begun


def kept_by_seed(
    folder: Path,
    seeds: Sequence[int],
    compute: Callable[[int], dict[str, Any]] | None,
    in_short: Callable[[dict[str, Any]], str] = str,
) -> dict[int, dict[str, Any]]:
    """Results by seed: those that a folder keeps, and those that are computed now.

    Parameters
    ----------
    folder : Path
        Has a file for each seed; made if need be.
    seeds : sequence of int
    compute : callable or None
        Seed -> result; None: nothing is computed.
    in_short : callable
        What is printed of a result.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for seed in seeds:
        file = folder / f"seed_{seed}.json"
        if not file.exists() and compute is not None:
            result = compute(seed)
            write_atomically(file, json.dumps(result).encode())
            print(f"{folder.name}, seed {seed}: {in_short(result)}", flush=True)
        if file.exists():
            found[seed] = json.loads(file.read_text())
    return found


def finish_run(here: Path, case: Case, seed: int, **changed: Any) -> None:
    """A run up to the end of active learning in a folder, unless there is one.

    Parameters
    ----------
    changed
        Keys of ACTIVE_LEARNING.
    """
    if not (here / "seconds.json").exists():
        shutil.rmtree(here, ignore_errors=True)
        case.write_run_folder(here, seed, converge_al=False, **changed)
        seconds = run_program(here)
        write_atomically(here / "seconds.json", json.dumps({"seconds": seconds}).encode())


def run_of(folder: Path, name: str, seed: int) -> Path:
    """The folder of a run of a case, made now or before."""
    here = folder / f"run_{name}_{seed}"
    finish_run(here, CASES[name], seed)
    return here


def labels_in(run: Path) -> list[Label]:
    """All points in the sets of a run's members, each once, in the order of the files."""
    parts = (run / "data" / "final" / part / "combined.xyz" for part in ("training", "validation"))
    return list({label.key: label for part in parts for label in read_labels(part)}.values())


def labels_of(folder: Path, name: str, seed: int) -> list[Label]:
    """The labels of the run of a case with a seed."""
    return labels_in(run_of(folder, name, seed))


def independent(folder: Path, name: str) -> list[Label]:
    """Labelled structures of MD with the reference method that no run has seen."""
    case, file = CASES[name], folder / f"test_{name}.npy"
    if not file.exists():
        n_trajectories, n_frames, stride, n_before = case.test
        frames = []
        for seed in range(n_trajectories):
            frames += reference_md(case.system, n_frames, stride, 900 + seed, n_before)
        folder.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as stream:
            np.save(stream, np.array(frames))
    return labelled(case.system, list(np.load(file)))


def settings(name: str, training: dict[str, Any]) -> MaceSettings:
    """The program's defaults for training but for `training`; the example's network."""
    values = CASES[name].mace_values()
    return MaceSettings.model_validate(
        {
            "general": values["GENERAL"],
            "architecture": values["ARCHITECTURE"],
            "training": {"valid_batch_size": 20} | training,
            "misc": {"device": "cpu"},
        }
    )


def main() -> None:
    """Make the runs and the independent structures that are not there yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--folder", type=Path, default=Path("training"))
    parser.add_argument("--systems", nargs="+", choices=CASES, default=list(CASES))
    given = parser.parse_args()
    for name in given.systems:
        print(f"{name}: {len(independent(given.folder, name))} independent structures", flush=True)
        for seed in SEEDS:
            n_labels = len(labels_of(given.folder, name, seed))
            print(f"{name}, seed {seed}: {n_labels} labels", flush=True)


if __name__ == "__main__":
    main()
