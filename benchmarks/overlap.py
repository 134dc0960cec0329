"""Wall time of parallel against serial mode, for reference calculations from cheap to dear.

    python benchmarks/overlap.py [--ratios 0.1 0.3 1 3 10] [--repeats 3] [--ranks 3] [--steps 60]

The reference engine is the ASI library of the tests (xTB on water), slowed by sleeping, so that it
takes no core from training and MD.  A first serial run measures the ML time of active learning and
the number of labels; the sleep is then ``ratio x ML time / labels``.  The threshold is so low that
every check asks for a label, and nobody trains while all wait: all runs do the same.  Serial and
parallel runs alternate, each continues a copy of one and the same initial dataset; what is compared
is the wall time of active learning, without start-up.  Beside it stands the ideal, max(DFT, ML).

A sleeping engine does not gain from ranks: with a real one the groups of parallel mode have one
rank less than all ranks of serial mode.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "asi"), str(TESTS / "workflow")]

from build import build_asi_library  # noqa: E402
from run_folder import labels, snapshots, write_inputs  # noqa: E402

SETTINGS = {
    "desired_acc": 0.0001,  # never reached
    "n_samples": 3,
    "skip_step_initial": 2,
    "max_initial_epochs": 10,
    "num_trajectories": 6,
    "skip_step_mlff": 10,
    "max_epochs_worker": 2,
    "intermediate_epochs": 2,
    "threshold_warmup": 1,
    "c_x": 0.99,
    "rescore_queue": False,
    "train_while_waiting": False,
    "analysis": False,
    "converge_initial": False,
    "converge_al": False,
}


@dataclass(frozen=True)
class Measured:
    """Active learning of one run: wall time and labels; seconds by activity; idle shares."""

    wall_s: float
    n_labels: int
    seconds: dict[str, float]
    idle: str


def seconds_of(folder: Path) -> dict[str, float]:
    """Seconds that the last snapshot has booked, by activity."""
    content = json.loads((snapshots(folder)[-1] / "run.json").read_text())
    return dict(content["state"]["seconds"])


def command(name: str, folder: Path, ranks: int, sleep_ms: float) -> str:
    """Run a command to its end; its output."""
    done = subprocess.run(
        ["mpirun", "-n", str(ranks), name, "--workdir", str(folder)],
        capture_output=True,
        text=True,
        timeout=3600,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ASI_SLEEP_MS": f"{sleep_ms:.0f}"},
    )
    if done.returncode != 0:
        raise SystemExit(f"{name} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout + done.stderr


def active_learning(
    start: Path, folder: Path, ranks: int, parallel: bool, sleep_ms: float
) -> Measured:
    """Active learning from a copy of an initial dataset."""
    shutil.copytree(start, folder)
    settings = folder / "active_learning_settings.yaml"
    was, now = "parallel: false", f"parallel: {str(parallel).lower()}"
    settings.write_text(settings.read_text().replace(was, now))
    before, n_before = seconds_of(folder), len(labels(folder))
    output = command("FHI_AL-al", folder, ranks, sleep_ms)
    spent = {name: s - before.get(name, 0.0) for name, s in seconds_of(folder).items()}
    (idle,) = re.findall(r"idle in this launch .*", output)
    n_labels = len(labels(folder)) - n_before
    shutil.rmtree(folder)
    return Measured(sum(spent.values()), n_labels, spent, idle)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.1, 0.3, 1.0, 3.0, 10.0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ranks", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60, help="MD steps per trajectory")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="overlap_"))
    start = write_inputs(
        work / "start",
        asi_library=build_asi_library(work / "asi"),
        active_learning={
            "ACTIVE_LEARNING": {**SETTINGS, "parallel": False, "max_MD_steps": options.steps}
        },
    )
    command("FHI_AL-initial-ds", start, options.ranks, 0)
    plain = active_learning(start, work / "plain", options.ranks, False, 0)
    ml_s = plain.wall_s - plain.seconds["DFT"]
    print(f"ML time {ml_s:.1f} s, {plain.n_labels} labels, {options.ranks} ranks\n")
    print("DFT/ML  sleep(ms)  serial(s)  parallel(s)  parallel/serial [min, max]  ideal ratio")
    for ratio in options.ratios:
        sleep_ms = 1000 * ratio * ml_s / plain.n_labels
        pairs = []
        for n in range(options.repeats):
            pair = [
                active_learning(start, work / f"run{n}", options.ranks, parallel, sleep_ms)
                for parallel in (False, True)
            ]
            if any(run.n_labels != plain.n_labels for run in pair):
                raise SystemExit(f"other numbers of labels: {[run.n_labels for run in pair]}")
            pairs.append(pair)
        quotients = [pair[1].wall_s / pair[0].wall_s for pair in pairs]
        serial, parallel = (statistics.median(p[k].wall_s for p in pairs) for k in (0, 1))
        ideal = max(ratio, 1.0) / (1.0 + ratio)
        print(
            f"{ratio:6g} {sleep_ms:10.0f} {serial:10.1f} {parallel:12.1f} "
            f"{statistics.median(quotients):11.2f} [{min(quotients):.2f}, {max(quotients):.2f}] "
            f"{ideal:16.2f}",
            flush=True,
        )
        print(f"        parallel: {pairs[-1][1].idle}", flush=True)
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
