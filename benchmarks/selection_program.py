"""A run of the program, as a user makes it, for the label-efficiency benchmark.

    python benchmarks/selection_program.py FOLDER

Runs what is in the folder in this process and keeps, beside what a run keeps, every structure that
its MD came to at a check.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from selection_systems import BLOCK, FRICTION, Array, System, mace_settings

from fhi_al.core.label import Label
from fhi_al.labels.store import LabelStore

# Points of each member in the initial dataset.
N_INITIAL = 4
# ACTIVE_LEARNING of every run, as far as it is not the program's default.
BASE: dict[str, Any] = {
    "reference_engine": "tblite",
    "desired_acc": 1e-6,  # never: the number of labels ends the run
    "lambda": 1e9,
    # The reference method itself samples; only what is kept is labelled and counted.
    "initial_sampling": "foundation",
    "foundation_calculator": "tblite.ase.TBLite",
    "n_samples": N_INITIAL,
    "skip_step_initial": BLOCK,
    "valid_skip": 5,
    "num_trajectories": 8,
    "max_MD_steps": 100_000,
    "skip_step_mlff": BLOCK,
    "analysis": False,
    "converge_al": False,
    "final_test": 0,  # all labels are active learning's
}


@dataclass(frozen=True)
class Selected:
    """What a run of the program came to.

    Parameters
    ----------
    labels : list of Label
        Those the engine computed, in their order; the initial dataset first.
    n_initial : int
        Labels of the initial dataset.
    visited : list of (n_atoms, 3) arrays
        Structures at which the ensemble was asked, in their order, in A.
    seconds : dict
        Of the run, by what it was at; "wall" is all of it after the imports.
    """

    labels: list[Label]
    n_initial: int
    visited: list[Array]
    seconds: dict[str, float] = field(default_factory=dict)


def write_run_folder(
    folder: Path, system: System, seed: int, n_members: int, n_labels: int, changed: dict[str, Any]
) -> None:
    """The input files of a run that ends with at least `n_labels` labels.

    Parameters
    ----------
    changed : dict
        Settings of ACTIVE_LEARNING that differ from the benchmark's.
    """
    content = BASE | {
        "reference_method": system.method,
        "foundation_arguments": {"method": system.method, "verbosity": 0},
        "ensemble_size": n_members,
        "label_budget": n_labels,
        "initial_share": n_members * N_INITIAL / n_labels,
    }
    settings = {
        "ACTIVE_LEARNING": content | changed,
        "MD": {
            "stat_ensemble": "NVT",
            "thermostat": "Langevin",
            "temperature": system.temperature,
            "timestep": system.timestep,
            "friction": FRICTION,
            "seed": 100 + seed,
        },
    }
    mace = mace_settings(system)
    mace["GENERAL"]["seed"] = 1 + seed
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "active_learning_settings.yaml").write_text(yaml.safe_dump(settings))
    (folder / "mace_settings.yaml").write_text(yaml.safe_dump(mace))
    start = system.structure
    Atoms(start.numbers, start.positions, cell=start.cell, pbc=start.pbc).write(
        folder / "geometry.in", format="aims"
    )


def run_program(folder: Path) -> None:
    """Run what is in a folder in a process of its own, from the start.

    Raises
    ------
    RuntimeError
        If it fails, with the end of its output.
    """
    done = subprocess.run(
        [sys.executable, __file__, str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if done.returncode != 0:
        raise RuntimeError(
            f"the run in {folder} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        )


def selected(folder: Path) -> Selected:
    """What a finished run in a folder came to."""
    labels = [label for label in LabelStore(folder / "selected.jsonl") if isinstance(label, Label)]
    return Selected(
        labels,
        sum(label.origin.phase == "initial" for label in labels),
        list(np.load(folder / "visited.npy")),
        json.loads((folder / "seconds.json").read_text()),
    )


def main(folder: Path) -> None:
    """Run the program and note where its MD came."""
    from fhi_al import ActiveLearningProcedure, InitialDatasetProcedure, open_run
    from fhi_al.active_learning.propagation import Propagation
    from fhi_al.core.trajectory import TrajectoryState
    from fhi_al.md.live_trajectory import LiveTrajectory
    from fhi_al.md.point import MDFailure

    visited: list[Array] = []
    advance = Propagation.advance

    def noted(
        self: Propagation,
        states: Sequence[TrajectoryState],
        live: Sequence[LiveTrajectory],
        n_steps: Sequence[int],
        member: int | None,
    ) -> list[MDFailure | None]:
        failures = advance(self, states, live, n_steps, member)
        visited.extend(
            one.point.positions
            for one, failure in zip(live, failures, strict=True)
            if failure is None
        )
        return failures

    Propagation.advance = noted  # type: ignore[method-assign]
    started = time.perf_counter()
    with open_run(folder) as run:
        InitialDatasetProcedure(run).run()
        began = time.perf_counter()
        ActiveLearningProcedure(run).run()
        ended = time.perf_counter()
        seconds = {"wall": ended - started, "active learning": ended - began}
        seconds |= dict(run.clock.seconds())
        labels = LabelStore(folder / "selected.jsonl")
        for record in run.store:
            if isinstance(record, Label):
                labels.append(record)
    np.save(folder / "visited.npy", np.array(visited))
    (folder / "seconds.json").write_text(json.dumps(seconds))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
