"""MD with many trajectories, side by side with another checkout of this program.

    python benchmarks/md_engine.py --before CHECKOUT [--trajectories 64] [--repeats 5]

Ethanol (Langevin, 500 K, 0.5 fs), blocks of 25 steps and the check at their end, one member, one
thread, float64; the checkouts take turns, each in a process of its own.  Three models:

* pair: a pair potential, which costs next to nothing: what is left is the program itself;
* small: MACE with 8 channels, L = 0, one layer, r_max 4;
* usual: MACE with 32 channels, L = 0, r_max 5.

Times are CPU times, so that others on the machine matter little.  A step's time in the models is
what their backend's ``predict`` takes; the rest is integrators, checks, neighbours and the sharing
out of forces.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BLOCK = 25
MODELS: dict[str, dict[str, Any]] = {
    "pair": {},
    "small": {"num_channels": 8, "max_L": 0, "num_interactions": 1, "r_max": 4.0},
    "usual": {"num_channels": 32, "max_L": 0, "r_max": 5.0},
}


def measure(model: str, n_trajectories: int) -> dict[str, float]:
    """Milliseconds of one MD step of all trajectories, and what of it the models take."""
    import throughput
    from ethanol import ethanol_labels

    from fhi_al.models.torch_set_up import torch_set_up

    throughput.N_TRAJECTORIES, throughput.BLOCK = n_trajectories, BLOCK
    vars(throughput)["N_MEMBERS"] = 1
    with torch_set_up(1):
        members = ensemble(model, ethanol_labels(8))
        seconds = [0.0]
        predict = members.backend.predict

        def timed(*arguments: Any, **keywords: Any) -> Any:
            started = time.process_time()
            found = predict(*arguments, **keywords)
            seconds[0] += time.process_time() - started
            return found

        members.backend.predict = timed
        trajectories = throughput.Trajectories(members, members, member=True)
        trajectories.advance()  # warms up
        trajectories.begin_again()
        seconds[0] = 0.0
        started = time.process_time()
        trajectories.advance()
        whole = time.process_time() - started
    return {"step_ms": 1e3 * whole / BLOCK, "model_ms": 1e3 * seconds[0] / BLOCK}


def ensemble(model: str, labels: list[Any]) -> Any:
    """One member, trained as far as is needed for its MD not to explode within a block."""
    from fhi_al.models.ensemble import Ensemble
    from fhi_al.models.training import SerialTrainingPool
    from fhi_al.settings.mace import MaceSettings

    settings: Any = MaceSettings.model_validate(
        {
            "general": {"default_dtype": "float64"},
            "architecture": MODELS[model],
            "training": {"batch_size": 4},
            "misc": {},
        }
    )
    if model == "pair":
        from pair_potential import PairPotential

        settings = settings.model_copy(update={"architecture": PairPotential.architecture()})
        object.__setattr__(settings, "backend", "pair")
        object.__setattr__(settings, "backend_class", "pair_potential:PairPotential")
    made = Ensemble(settings, (1, 6, 8), [1])
    (member,) = made.members
    member.add_training(labels)
    member.add_validation(labels[:2])
    member.fit_normalisation()
    SerialTrainingPool(made, 10).begin([0], 10).finish()
    return made


def of_checkout(checkout: Path, model: str, n_trajectories: int) -> dict[str, float]:
    """The same in a process of a checkout's code."""
    folders = [checkout / "src", checkout / "benchmarks", checkout / "tests" / "backends"]
    path = os.pathsep.join(str(folder) for folder in folders)
    job = subprocess.run(
        [sys.executable, __file__, "--measure", model, "--trajectories", str(n_trajectories)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if job.returncode:
        raise RuntimeError(f"{checkout}: {job.stderr[-2000:]}")
    found: dict[str, float] = json.loads(job.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="another checkout of this program")
    parser.add_argument("--trajectories", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--measure", choices=list(MODELS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        # The folder of this script is the present checkout's.
        sys.path.remove(str(ROOT / "benchmarks"))
        print(json.dumps(measure(options.measure, options.trajectories)))
        return
    checkouts = {"before": options.before, "now": ROOT} if options.before else {"now": ROOT}
    print(f"{options.trajectories} trajectories of ethanol, ms per MD step (median)")
    for model in options.models:
        found: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
        for _ in range(options.repeats):
            for name, checkout in checkouts.items():
                found[name].append(of_checkout(checkout, model, options.trajectories))
        for name, runs in found.items():
            whole, models = (
                statistics.median(run[key] for run in runs) for key in ("step_ms", "model_ms")
            )
            print(
                f"{model:6s} {name:7s} {whole:8.2f}, of which models {models:8.2f}, "
                f"the rest {whole - models:7.2f} ({100 * (1 - models / whole):.1f} %)",
                flush=True,
            )


if __name__ == "__main__":
    main()
