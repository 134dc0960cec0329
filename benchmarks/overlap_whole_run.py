"""Whole runs in serial and in parallel mode where labels take about as long as the training.

    python benchmarks/overlap_whole_run.py [--repeats 3] [--groups 1 2] [--sleep-ms 1200]

Water; the reference engine is the ASI library of the tests (xTB), slowed by sleeping, so that it
takes no core from training and MD.  3 ranks, 3 members, 6 trajectories, the initial dataset sampled
by a cheap calculator.  Serial and parallel runs alternate, each from nothing to the converged
models; one rank trains in all of them.  Modes differ in which structures they ask for: what is
compared is the wall time per label, without start-up.  Printed for each stage: seconds, rank 0's
by activity, and the share of the time in which labelling ranks compute.

Beside a ratio stands the ideal one of the serial run's own times, max(DFT, ML) / (DFT + ML).
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from overlap import command, seconds_of  # finds the modules of the tests, too

from build import build_asi_library  # isort: skip
from run_folder import labels, write_inputs  # isort: skip

RANKS = 3
SETTINGS: dict[str, Any] = {
    "desired_acc": 0.004,
    "lambda": 2.0,
    "ensemble_size": 3,
    "initial_sampling": "foundation",
    "foundation_calculator": "tblite.ase.TBLite",
    "foundation_arguments": {"method": "GFN1-xTB", "verbosity": 0},
    "n_samples": 3,
    "skip_step_initial": 10,
    "max_initial_epochs": 600,
    "intermediate_epochs": 150,
    "valid_ratio": 0.2,
    "valid_skip": 5,
    "num_trajectories": 6,
    "max_MD_steps": 300,
    "skip_step_mlff": 20,
    "max_epochs_worker": 3,
    "threshold_warmup": 3,
    "c_x": 0.5,
    "training_ranks": 1,
    "analysis": False,
    "converge_initial": False,
    "converge_al": True,
    "converge_best": False,
    "max_final_epochs": 20,
    "patience": 20,
}
MACE: dict[str, dict[str, Any]] = {
    "ARCHITECTURE": {"num_channels": 32, "max_ell": 3, "r_max": 4.0},
    "TRAINING": {"batch_size": 5, "lr": 0.01},
}
TIME = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) active learning stops")
STAGES = ("initial dataset", "active learning", "final convergence")


@dataclass(frozen=True)
class Stage:
    """Wall seconds of rank 0 in a stage, by activity, and the labels computed in it."""

    seconds: dict[str, float]
    n_labels: int

    @property
    def wall_s(self) -> float:
        """All seconds."""
        return sum(self.seconds.values())


def whole_run(folder: Path, library: Path, mode: dict[str, Any], sleep_ms: float) -> list[Stage]:
    """A run from nothing to its end."""
    settings = {**SETTINGS, **mode}
    write_inputs(
        folder,
        asi_library=library,
        mace=MACE,
        active_learning={"ACTIVE_LEARNING": settings, "MISC": {"snapshot_interval": 10}},
    )
    command("FHI_AL-initial-ds", folder, RANKS, sleep_ms)
    first = Stage(seconds_of(folder), len(labels(folder)))
    output = command("FHI_AL-al", folder, RANKS, sleep_ms)
    spent = {name: s - first.seconds[name] for name, s in seconds_of(folder).items()}
    converged_s = _seconds_of_convergence(output)
    training = {"training": min(converged_s, spent["training"])}
    spent["training"] -= training["training"]
    second = Stage(spent, len(labels(folder)) - first.n_labels)
    shutil.rmtree(folder)
    return [first, second, Stage(training, 0)]


def _seconds_of_convergence(output: str) -> float:
    """Between the end of active learning and the last line, which are written to the second."""
    lines = [line for line in output.splitlines() if re.match(r"\d{4}-", line)]
    (begin,) = TIME.findall(output)
    times = [datetime.fromisoformat(text) for text in (begin, lines[-1][:19])]
    return (times[1] - times[0]).total_seconds()


def print_stages(name: str, stages: list[Stage], sleep_ms: float, groups: int) -> None:
    """A line for each stage."""
    for stage_name, stage in zip(STAGES, stages, strict=True):
        shares = ", ".join(f"{what} {s:.0f}" for what, s in stage.seconds.items() if s >= 0.5)
        busy = 100 * stage.n_labels * sleep_ms / 1000 / groups / stage.wall_s
        print(
            f"    {name:12s} {stage_name:18s} {stage.wall_s:6.1f} s, {stage.n_labels:3d} labels "
            f"(engines busy {busy:3.0f} %): {shares}",
            flush=True,
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--groups", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--sleep-ms", type=float, default=1200)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="overlap_"))
    library = build_asi_library(work / "asi")
    ratios: dict[int, list[float]] = {groups: [] for groups in options.groups}
    ideal = []
    for repeat in range(options.repeats):
        serial = whole_run(work / "serial", library, {"parallel": False}, options.sleep_ms)
        print_stages("serial", serial, options.sleep_ms, 1)
        wall, dft = (sum(stage.wall_s for stage in serial), _sum(serial, "DFT"))
        per_label = wall / sum(stage.n_labels for stage in serial)
        ideal.append(max(dft, wall - dft) / wall)
        for groups in options.groups:
            mode = {"parallel": True, "reference_groups": groups}
            stages = whole_run(work / "parallel", library, mode, options.sleep_ms)
            print_stages(f"{groups} group(s)", stages, options.sleep_ms, groups)
            seconds = sum(stage.wall_s for stage in stages)
            ratio = seconds / sum(stage.n_labels for stage in stages) / per_label
            ratios[groups].append(ratio)
            print(f"repeat {repeat + 1}, {groups} group(s): {ratio:.2f} per label", flush=True)
    print(f"\nideal, of the serial runs' times: {statistics.median(ideal):.2f}")
    for groups, found in ratios.items():
        middle, spread = statistics.median(found), f"[{min(found):.2f}, {max(found):.2f}]"
        print(f"{groups} group(s): parallel/serial per label {middle:.2f} {spread}")
    shutil.rmtree(work)


def _sum(stages: list[Stage], activity: str) -> float:
    return sum(stage.seconds.get(activity, 0.0) for stage in stages)


if __name__ == "__main__":
    main()
