"""What a run costs beside reference calculations and the models' kernels, in serial mode.

    python benchmarks/overhead.py [--systems ethanol diamond] [--folder DIR]

Runs the examples to their end on one rank and one thread, with stopwatches around

* DFT: the calls of the reference engine, and of the calculator that samples the initial dataset;
* kernels: forward, backward and optimizer step of a training batch, the forward of a validation,
  the energies of the training set that E0s are fitted to, a model's energies and forces in MD, and
  its descriptors of candidates; making their batches is not among them.

overhead = (wall - start-up - DFT - kernels) / (DFT + kernels)

Start-up (imports, building the models and the copies that predict) is reported on its own.  The
rest is told by what the program was at, as its own clock books it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from report import draw_shares, machine

EXAMPLES = Path(__file__).parents[1] / "examples"
TARGET = 4
KERNELS = ("training batches", "validations", "energies for E0s", "MD forces", "descriptors")


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
    """Run what is in a folder, and print what was measured; in a process of its own."""
    started = time.perf_counter()
    from tblite.ase import TBLite

    import fhi_al.app.build  # noqa: F401  (all that a run imports)
    from fhi_al import ActiveLearningProcedure, InitialDatasetProcedure, open_run
    from fhi_al.labels.engine_service import EngineService
    from fhi_al.models.mace.backend import MaceBackend
    from fhi_al.models.training_step import TrainingStep

    imports = time.perf_counter() - started
    watches = Stopwatches()
    watches.around(EngineService, "calculate", "DFT")
    watches.around(TBLite, "calculate", "DFT")
    watches.around(TrainingStep, "take", "training batches")
    watches.around(MaceBackend, "errors", "validations")
    watches.around(MaceBackend, "energy_errors", "energies for E0s")
    watches.around(MaceBackend, "predict", "MD forces")
    watches.around(MaceBackend, "descriptors", "descriptors")
    for batching in ("inputs", "training_batch"):
        watches.around(MaceBackend, batching, "batches made")
    watches.around(MaceBackend, "module", "models built")
    started = time.perf_counter()
    with open_run(folder) as run:
        InitialDatasetProcedure(run).run()
        ActiveLearningProcedure(run).run()
        wall = time.perf_counter() - started
        booked = run.clock.seconds()
        n_labels = run.store.n_labels
    kernels = {name: watches.seconds.get(name, 0.0) for name in KERNELS}
    found = {
        "labels": n_labels,
        "imports": imports,
        "models built": watches.seconds.get("models built", 0.0),
        "wall": wall,
        "DFT": watches.seconds.get("DFT", 0.0),
        "kernels": kernels,
        "batches made": watches.seconds.get("batches made", 0.0),
        "booked": dict(booked),
        "calls": watches.calls,
    }
    print(json.dumps(found))


def run_example(name: str) -> dict[str, Any]:
    """What was measured on one example."""
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
    if job.returncode != 0:
        raise RuntimeError(f"{name} ended with code {job.returncode}:\n{job.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(job.stdout.splitlines()[-1])
    return found


def shares(found: dict[str, Any]) -> dict[str, float]:
    """Seconds after start-up: DFT, each kind of kernel, and the rest."""
    useful: dict[str, float] = {"DFT": found["DFT"]} | found["kernels"]
    rest = found["wall"] - found["models built"] - sum(useful.values())
    return useful | {"rest": rest}


def table(name: str, found: dict[str, Any]) -> list[str]:
    """One example in Markdown."""
    parts, calls = shares(found), found["calls"]
    useful = sum(parts.values()) - parts["rest"]
    lines = [
        f"| {name}, {found['labels']} labels | s | of DFT and kernels |",
        "|---|---|---|",
        f"| start-up: imports | {found['imports']:.1f} | |",
        f"| start-up: {calls['models built']} models built or copied "
        f"| {found['models built']:.1f} | |",
        f"| wall time after imports | {found['wall']:.1f} | |",
    ]
    for part in ("DFT", *KERNELS):
        lines.append(f"| {part} ({calls.get(part, 0)} calls) | {parts[part]:.1f} | |")
    share = 100 * parts["rest"] / useful
    lines.append(f"| **rest** | {parts['rest']:.1f} | **{share:.1f} %** (to reach: {TARGET} %) |")
    kernels = found["kernels"]
    inside = {
        "training": kernels["training batches"]
        + kernels["validations"]
        + kernels["energies for E0s"],
        "MD": kernels["MD forces"] + kernels["descriptors"],
        "DFT": parts["DFT"],
    }
    for activity, value in found["booked"].items():
        left = value - inside.get(activity, 0.0)
        lines.append(f"| of the time for {activity}, neither DFT nor kernels | {left:.1f} | |")
    lines.append(f"| of the rest, making batches of labels | {found['batches made']:.1f} | |")
    return lines


def main() -> None:
    """Run the examples one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--systems", nargs="+", default=["ethanol", "diamond"])
    parser.add_argument("--folder", type=Path, help="for the tables and the figure")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        measure(given.run)
        return
    found = {name: run_example(name) for name in given.systems}
    lines = []
    for name, one in found.items():
        lines += [*table(name, one), ""]
    text = "\n".join([*lines, machine()]) + "\n"
    print(text)
    if given.folder:
        given.folder.mkdir(parents=True, exist_ok=True)
        (given.folder / "overhead.md").write_text(text)
        draw_shares(
            given.folder / "overhead.png", {name: shares(one) for name, one in found.items()}
        )


if __name__ == "__main__":
    main()
