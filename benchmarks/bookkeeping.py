"""What a run spends on bookkeeping, per sweep and per label, with many systems and trajectories.

    python benchmarks/bookkeeping.py [--systems 1 50] [--trajectories 10 100 1000]

Active learning of water molecules in serial mode, with the pair potential of the tests as a model
and Morse potentials as the engine.  Stopwatches take out models, engine, training rounds, MD,
snapshots and waiting for the disk; the rest of the wall time is bookkeeping: decisions, queue,
label store, journal, sets.

* per sweep: all trajectories are checked, none gets a label;
* per label: every trajectory gets one in each sweep, a sanity check, after which nobody trains.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from overhead import Stopwatches
from report import machine

BACKENDS = Path(__file__).parents[1] / "tests" / "backends"
WATER = "atom 0 0 0.1173 O\natom 0 0.7572 -0.4692 H\natom 0 -0.7572 -0.4692 H\n"
SWEEPS = {"sweep": 5, "label": 2}


def settings(n_systems: int, n_trajectories: int, per: str) -> dict[str, dict[str, Any]]:
    """The two files of a run's settings."""
    al = {
        "ACTIVE_LEARNING": {
            "desired_acc": 1e-6,
            "ensemble_size": 2,
            "model_backend": "pair_potential:PairPotential",
            "reference_engine": "ase",
            "reference_calculator": "ase.calculators.morse.MorsePotential",
            "reuse_calculator": True,
            "initial_sampling": "aimd",
            "n_samples": 2 * n_systems,
            "skip_step_initial": 1,
            "max_initial_epochs": 1,
            "intermediate_epochs": 1,
            "intermediate_gain": None,
            "final_test": 0,
            "valid_skip": 1000,
            "num_trajectories": n_trajectories,
            "skip_step_mlff": 1,
            "max_MD_steps": SWEEPS[per],
            "max_epochs_worker": 1,
            "threshold_warmup": 1,
            "max_threshold": None,
            "max_excess_energy": None,
            "duplicate_distance": 0,
            # None crosses; a sanity check of each at every step, which trains nobody.
            "c_x": -1e6,
            "sanity_skip": 1 if per == "label" else 1000,
            "sanity_action": "record",
            "analysis": True,
            "converge_al": False,
            "max_force": 1e6,
            "max_energy_per_atom": 1e6,
            "min_distance": 0.05,
        },
        "MD": {"temperature": 10, "timestep": 0.1, "friction": 0.02, "seed": 3},
        "MISC": {"snapshot_interval": 1e6},
        "SYSTEMS": [{"name": f"water_{k}", "geometry": "water.in"} for k in range(n_systems)],
    }
    mace = {
        "GENERAL": {"name_exp": "water", "seed": 7},
        "ARCHITECTURE": {"r_max": 3.0, "num_functions": 4},
        "TRAINING": {"batch_size": 1000, "lr": 1e-6},
        "MISC": {"device": "cpu"},
    }
    return {"active_learning_settings.yaml": al, "mace_settings.yaml": mace}


def measured(n_systems: int, n_trajectories: int, per: str) -> dict[str, float]:
    """Seconds of one run of active learning, by what they were spent on."""
    from fhi_al import ActiveLearningProcedure, InitialDatasetProcedure, open_run
    from fhi_al.active_learning.propagation import Propagation
    from fhi_al.active_learning.steps import Snapshots
    from fhi_al.active_learning.training_rounds import TrainingRounds
    from fhi_al.labels.engine_service import EngineService
    from fhi_al.models.torch_backend import TorchBackend

    watches = Stopwatches()
    watches.around(EngineService, "calculate", "engine")
    watches.around(TorchBackend, "predict", "models")
    watches.around(TorchBackend, "descriptors", "models")
    watches.around(TrainingRounds, "train", "training")
    watches.around(Propagation, "advance", "MD")
    watches.around(Snapshots, "write", "snapshots")
    watches.around(os, "fsync", "disk")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "water.in").write_text(WATER)
        for name, values in settings(n_systems, n_trajectories, per).items():
            (folder / name).write_text(yaml.safe_dump(values))
        with open_run(folder) as run:
            InitialDatasetProcedure(run).run()
            before, watches.seconds = run.store.n_labels, {}
            watches.around(ActiveLearningProcedure, "_sweep_or_stop", "bookkeeping")
            started = time.perf_counter()
            ActiveLearningProcedure(run).run()
            found = {"wall": time.perf_counter() - started, **watches.seconds}
            n_labels = run.store.n_labels - before
    parts = n_labels if per == "label" else SWEEPS[per]
    return {**found, "labels": n_labels, "each": found["bookkeeping"] / max(1, parts)}


def main() -> None:
    """Measure all pairs of numbers, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--systems", nargs="+", type=int, default=[1, 50])
    parser.add_argument("--trajectories", nargs="+", type=int, default=[10, 100, 1000])
    given = parser.parse_args()
    sys.path.insert(0, str(BACKENDS))
    print(
        "| systems | trajectories | per sweep, ms | per sweep and trajectory, ms | per label, ms |"
    )
    print("|---|---|---|---|---|")
    for n_systems in given.systems:
        for n_trajectories in given.trajectories:
            if n_trajectories < n_systems:
                continue
            sweep = 1000 * measured(n_systems, n_trajectories, "sweep")["each"]
            label = 1000 * measured(n_systems, n_trajectories, "label")["each"]
            print(
                f"| {n_systems} | {n_trajectories} | {sweep:.1f} | {sweep / n_trajectories:.3f}"
                f" | {label:.2f} |",
                flush=True,
            )
    print(machine())


if __name__ == "__main__":
    main()
