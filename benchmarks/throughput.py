"""MD steps and training epochs per second, against MACE's own tools as a user would script them.

    mpirun -n 2 python benchmarks/throughput.py [--repeats 5] [--blocks 1] [--epochs 8]
        [--folder DIR]

Ethanol labelled by GFN2-xTB (seeded), four members with 32 channels, L = 0, float64, one thread for
each rank.  Eight trajectories (Langevin, 500 K) for MD:

* naive: ASE's Langevin with MACE's calculator of all four models, one trajectory after the other;
* ours: blocks of 25 steps and the check at their end, on mean forces or one member's, on one rank
  or two; with ``md_dtype: float32`` besides.

Batches of 5 for training, one validation for each epoch:

* ``mace_run_train`` in one process with two threads: the times between the epochs of its log;
* ours: four members on two ranks with one thread each.

All ways take turns.
"""

from __future__ import annotations

import argparse
import copy
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from ethanol import N_MEMBERS, ensemble, ethanol_labels
from report import draw_gains, machine

from fhi_al.models.remote.worker import TrainingRank
from fhi_al.models.torch_set_up import torch_set_up
from fhi_al.parallel import mpi

N_TRAJECTORIES, BLOCK = 8, 25
N_TRAINING, N_VALIDATION = 40, 10
TARGETS = {
    "mean, 1 rank": 2.7,
    "mean, 2 ranks": 5.0,
    "member, 1 rank": 8.0,
    "member, 2 ranks": 14.0,
    "training": 1.3,
}


class Trajectories:
    """Eight trajectories that the program's own move stage advances.

    Parameters
    ----------
    members : Ensemble
    predictor : Predictor
    member : bool
        One member drives, instead of the mean of all.
    n_trajectories : int, optional
    """

    def __init__(
        self, members: Any, predictor: Any, member: bool, n_trajectories: int | None = None
    ) -> None:
        from ase.build import molecule

        from fhi_al.active_learning.propagation import Dynamics, Propagation
        from fhi_al.core.plausible import GeometryLimits
        from fhi_al.core.structure import structure
        from fhi_al.core.trajectory import TrajectoryState
        from fhi_al.md.conditions import MDConditions
        from fhi_al.md.live_trajectory import LiveTrajectory
        from fhi_al.md.point import random_stream
        from fhi_al.md.system import MDSystem

        atoms = molecule("CH3CH2OH")
        system = structure(atoms.numbers, atoms.positions)
        conditions = MDConditions("Langevin", 500.0, 0.5, 0.01, 100.0, 0.01, 1)
        md = MDSystem(system, conditions, GeometryLimits())
        n = N_TRAJECTORIES if n_trajectories is None else n_trajectories
        self._starts = [LiveTrajectory.start(md, random_stream(1, k)) for k in range(n)]
        self._propagation = Propagation(Dynamics((system,), lambda _, __: md, predictor))
        self._states = [TrajectoryState(k) for k in range(n)]
        self.begin_again()
        self._member = member
        self._sweep = 0

    def advance(self) -> None:
        """One block of all trajectories."""
        driving = self._sweep % N_MEMBERS if self._member else None
        n_steps = [BLOCK] * len(self._states)
        failures = self._propagation.advance(self._states, self._live, n_steps, driving)
        if any(failures):
            raise RuntimeError("a trajectory exploded: the members are too poor for this")
        self._sweep += 1

    def begin_again(self) -> None:
        """Back to the start."""
        self._live = copy.deepcopy(self._starts)


def naive_md(members: Any, n_steps: int) -> None:
    """What a user would write: one trajectory after the other with MACE's own committee."""
    import numpy as np
    from ase import units
    from ase.build import molecule
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
    from mace.calculators import MACECalculator

    from fhi_al.models.mace.runtime_model import to_mace_model

    if not hasattr(naive_md, "calculator"):
        inference = [member.inference_model for member in members.members]
        models = [to_mace_model(m.module, m.normalisation.atomic_energies) for m in inference]
        naive_md.calculator = MACECalculator(  # type: ignore[attr-defined]
            models=models, device="cpu", default_dtype="float64"
        )
    for trajectory in range(N_TRAJECTORIES):
        generator = np.random.default_rng(trajectory)
        atoms = molecule("CH3CH2OH")
        atoms.calc = naive_md.calculator  # type: ignore[attr-defined]
        MaxwellBoltzmannDistribution(atoms, temperature_K=500, rng=generator)
        Langevin(
            atoms, 0.5 * units.fs, temperature_K=500, friction=0.01 / units.fs, rng=generator
        ).run(n_steps)


def mace_run_train(members: Any, labels: list[Any], n_epochs: int) -> float:
    """Seconds of one epoch of ``mace_run_train``: the median of the times between two."""
    from ase import Atoms
    from ase.io import write

    wanted = members.backend.arguments
    with tempfile.TemporaryDirectory() as folder:
        for name, some in (("train", labels[:N_TRAINING]), ("valid", labels[N_TRAINING:])):
            frames = []
            for label in some:
                atoms = Atoms(label.numbers, label.positions)
                atoms.info["REF_energy"] = label.energy
                atoms.arrays["REF_forces"] = label.forces
                frames.append(atoms)
            write(Path(folder) / f"{name}.xyz", frames)
        options = {
            "name": "theirs",
            "train_file": f"{folder}/train.xyz",
            "valid_file": f"{folder}/valid.xyz",
            "work_dir": folder,
            "E0s": "average",
            "default_dtype": "float64",
            "device": "cpu",
            "batch_size": 5,
            "valid_batch_size": members.settings.training.valid_batch_size,
            "max_num_epochs": n_epochs,
            "eval_interval": 1,
            "energy_key": "REF_energy",
            "forces_key": "REF_forces",
            "ema_decay": 0.99,
            "seed": 1,
        }
        for name in ("model", "r_max", "num_channels", "max_L", "max_ell", "correlation"):
            options[name] = getattr(wanted, name)
        words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        job = subprocess.run(
            ["mace_run_train", *words, "--ema"],
            env={**os.environ, "OMP_NUM_THREADS": "2"},
            capture_output=True,
            text=True,
            timeout=900,
        )
        message = job.stdout + job.stderr
    found = re.findall(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) INFO: Epoch \d+:", message)
    times = [datetime.fromisoformat(word).timestamp() for word in found]
    if len(times) < 5:
        raise RuntimeError(f"mace_run_train did not train:\n{message[-2000:]}")
    # The first two compile.
    return statistics.median(b - a for a, b in pairwise(times[2:]))


def measure(comm: Any, given: argparse.Namespace) -> None:
    """Let all ways take turns and print what came out."""
    import torch

    from fhi_al.models.remote.client import RemoteTrainingPool
    from fhi_al.models.remote.predictor import RemotePredictor

    torch.set_num_threads(1)
    labels = ethanol_labels(N_TRAINING + N_VALIDATION)
    members = ensemble(labels)
    pool = RemoteTrainingPool(members, 1, comm, (0, 1))
    pool.begin(range(N_MEMBERS), 12).finish()
    single = members.predictor("float32")
    shared = RemotePredictor(pool)
    moving = {
        "mean, 1 rank": Trajectories(members, members, member=False),
        "mean, 2 ranks": Trajectories(members, shared, member=False),
        "member, 1 rank": Trajectories(members, members, member=True),
        "member, 2 ranks": Trajectories(members, shared, member=True),
        "mean, 1 rank, float32": Trajectories(members, single, member=False),
        "member, 1 rank, float32": Trajectories(members, single, member=True),
    }
    n_steps = given.blocks * BLOCK
    seconds: dict[str, list[float]] = {}

    def take(name: str, act: Callable[[], None]) -> None:
        started = time.monotonic()
        act()
        seconds.setdefault(name, []).append(time.monotonic() - started)

    def ours(name: str) -> None:
        for _ in range(given.blocks):
            moving[name].advance()

    def train() -> None:
        pool.begin(range(N_MEMBERS), given.epochs).finish()

    naive_md(members, 3)
    for name in moving:
        moving[name].advance()
    pool.begin(range(N_MEMBERS), 1).finish()
    ways = ["naive", *moving, "mace_run_train", "training, 2 ranks"]
    for repeat in range(given.repeats):
        for name in ways if repeat % 2 == 0 else reversed(ways):
            if name == "naive":
                take(name, lambda: naive_md(members, n_steps))
            elif name == "mace_run_train":
                found = mace_run_train(members, labels, given.epochs + 3)
                seconds.setdefault(name, []).append(found)
            elif name == "training, 2 ranks":
                take(name, train)
            else:
                moving[name].begin_again()
                take(name, lambda name=name: ours(name))  # type: ignore[misc]
    lines = table(seconds, list(moving), n_steps, given.epochs)
    print("\n".join([*lines, "", machine()]))
    if given.folder:
        given.folder.mkdir(parents=True, exist_ok=True)
        (given.folder / "throughput.md").write_text("\n".join([*lines, "", machine()]) + "\n")
        gains = ratios(seconds, list(moving), n_steps, given.epochs)
        draw_gains(
            given.folder / "throughput.png",
            {
                name: (statistics.median(values), min(values), max(values))
                for name, values in gains.items()
            },
            TARGETS,
        )


def table(
    seconds: dict[str, list[float]], moving: list[str], n_steps: int, n_epochs: int
) -> list[str]:
    """The results as a table in Markdown: medians, ranges and targets."""
    lines = [
        "| | per second, median [least, most] | over the other way | target |",
        "|---|---|---|---|",
    ]
    gains = ratios(seconds, moving, n_steps, n_epochs)

    def line(words: str, values: list[float], name: str = "") -> None:
        gain = spread(gains[name]) if name else "1"
        lines.append(f"| {words} | {spread(values)} | {gain} | {TARGETS.get(name, '')} |")

    found = rates(seconds, moving, n_steps, n_epochs)
    line("MD, naive (steps of a trajectory)", found["naive"])
    for name in moving:
        line(f"MD, {name}", found[name], name)
    line("training, mace_run_train, 2 threads (epochs of a member)", found["mace_run_train"])
    line("training, 2 ranks", found["training"], "training")
    return lines


def rates(
    seconds: dict[str, list[float]], moving: list[str], n_steps: int, n_epochs: int
) -> dict[str, list[float]]:
    """Steps of a trajectory and epochs of a member per second, in every turn."""
    found = {
        name: [N_TRAJECTORIES * n_steps / s for s in seconds[name]] for name in ["naive", *moving]
    }
    found["mace_run_train"] = [1 / s for s in seconds["mace_run_train"]]
    found["training"] = [N_MEMBERS * n_epochs / s for s in seconds["training, 2 ranks"]]
    return found


def ratios(
    seconds: dict[str, list[float]], moving: list[str], n_steps: int, n_epochs: int
) -> dict[str, list[float]]:
    """How many times as fast as the other way of the same turn."""
    found = rates(seconds, moving, n_steps, n_epochs)
    other = dict.fromkeys(moving, "naive") | {"training": "mace_run_train"}
    return {
        name: [ours / theirs for ours, theirs in zip(found[name], found[base], strict=True)]
        for name, base in other.items()
    }


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def main() -> int:
    """Rank 0 measures, the other one serves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--blocks", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--folder", type=Path, help="for the table and the figure")
    given = parser.parse_args()
    with mpi.communicator() as comm, ExitStack() as changes:
        if comm.size != 2:
            sys.exit("run it on two ranks: mpirun -n 2 python benchmarks/throughput.py")
        if comm.rank != 0:
            return mpi.serve(comm, TrainingRank(comm, changes).act)
        changes.enter_context(torch_set_up(1))
        measure(comm, given)
        mpi.call(comm, "stop", 0)
        return 0


if __name__ == "__main__":
    sys.exit(main())
