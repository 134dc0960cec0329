"""What a run costs beside reference calculations and the models' kernels, in serial mode.

    python benchmarks/overhead.py [--systems ethanol diamond] [--table FILE]

Runs the examples to their end on one rank and one thread, with stopwatches around

* DFT: the calls of the reference engine, and of the calculator that samples the initial dataset;
* kernels: forward, backward and optimizer step of a training batch, the forward of a validation,
  and a model's energies and forces in MD.

overhead = (wall - start-up - DFT - kernels) / (DFT + kernels)

Start-up (imports, and building the models) is reported on its own.  The rest is told by what the
program was at, as its own clock books it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[1] / "examples"
TARGET = 0.05


class Stopwatches:
    """Seconds inside functions, by name; inner calls of another name are not counted twice."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._inside: list[float] = []

    def around(self, owner: Any, attribute: str, name: str) -> None:
        """Measure a function or method of `owner` from here on."""
        real: Callable[..., Any] = getattr(owner, attribute)

        def timed(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            self._inside.append(0.0)
            try:
                return real(*arguments, **options)
            finally:
                took = time.perf_counter() - started
                inner = self._inside.pop()
                if self._inside:
                    self._inside[-1] += took
                self.seconds[name] = self.seconds.get(name, 0.0) + took - inner
                self.calls[name] = self.calls.get(name, 0) + 1

        setattr(owner, attribute, timed)


def measure(folder: Path) -> None:
    """Run what is in a folder, and print the table's lines; in a process of its own."""
    started = time.perf_counter()
    from fhi_al import mpi

    mpi.start()
    from tblite.ase import TBLite

    import fhi_al.assemble  # noqa: F401  (all that a run imports)
    from fhi_al import ActiveLearningProcedure, InitialDatasetProcedure, open_run
    from fhi_al.models import evaluation, predictor
    from fhi_al.models.mace_adapter.model import ModelFactory
    from fhi_al.models.mace_adapter.training_step import TrainingStep
    from fhi_al.reference.service import EngineService

    imports = time.perf_counter() - started
    watches = Stopwatches()
    watches.around(EngineService, "calculate", "DFT")
    watches.around(TBLite, "calculate", "DFT")
    watches.around(TrainingStep, "take", "training batches")
    watches.around(evaluation, "errors", "validations")
    watches.around(predictor, "energies_and_forces", "MD forces")
    watches.around(ModelFactory, "model", "models built")
    started = time.perf_counter()
    with open_run(folder) as run:
        InitialDatasetProcedure(run).run()
        ActiveLearningProcedure(run).run()
        wall = time.perf_counter() - started
        booked = run.clock.seconds()
        n_labels = run.store.n_labels
    seconds = {name: watches.seconds.get(name, 0.0) for name in ("DFT", "models built")}
    kernels = {
        name: watches.seconds.get(name, 0.0)
        for name in ("training batches", "validations", "MD forces")
    }
    useful = seconds["DFT"] + sum(kernels.values())
    rest = wall - seconds["models built"] - useful
    print(f"| {folder.name}: labels | {n_labels} | |")
    print(f"| start-up: imports | {imports:.1f} s | |")
    built = watches.calls.get("models built", 0)
    print(f"| start-up: {built} models built | {seconds['models built']:.1f} s | |")
    print(f"| wall time after imports | {wall:.1f} s | |")
    for name, value in ({"DFT": seconds["DFT"]} | kernels).items():
        print(f"| {name} ({watches.calls.get(name, 0)} calls) | {value:.1f} s | |")
    print(f"| **rest** | {rest:.1f} s | **{100 * rest / useful:.1f} %** (target 5) |")
    inside = {
        "training": kernels["training batches"] + kernels["validations"],
        "MD": kernels["MD forces"],
        "DFT": seconds["DFT"],
    }
    for activity, value in booked.items():
        left = value - inside.get(activity, 0.0)
        print(f"| of the program's time for {activity}, not kernels | {left:.1f} s | |")


def run_example(name: str) -> str:
    """The table of one example."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / name
        shutil.copytree(EXAMPLES / name, folder)
        job = subprocess.run(
            [sys.executable, __file__, "--run", str(folder)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=1800,
        )
    lines = [line for line in job.stdout.splitlines() if line.startswith("| ")]
    if job.returncode != 0 or not lines:
        raise RuntimeError(f"{name} ended with code {job.returncode}:\n{job.stderr[-3000:]}")
    return "\n".join(["| | | of DFT and kernels |", "|---|---|---|", *lines])


def main() -> None:
    """Run the examples one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--systems", nargs="+", default=["ethanol", "diamond"])
    parser.add_argument("--table", type=Path)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        measure(given.run)
        return
    tables = [run_example(name) for name in given.systems]
    print("\n\n".join(tables))
    if given.table:
        given.table.write_text("\n\n".join(tables) + "\n")


if __name__ == "__main__":
    main()
