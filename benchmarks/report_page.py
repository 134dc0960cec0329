"""The report of a run with many labels: seconds, and bytes of the file.

    python benchmarks/report_page.py [--folder DIR] [--labels 1000] [--repeats 5]

A run of ethanol with GFN2-xTB whose initial dataset is sampled by MD of the engine itself, every
step of which is a label; active learning of a few steps; a converged small model.  The run is made
once in the folder.  Then ``FHI_AL-report`` is started anew each time, Python's start included;
and one launch counts what keeping the record costs: lines and bytes of ``report/activity.jsonl``,
and the seconds that each look at the counters takes.  Writes report_page.md.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from label_sets import EXAMPLES, run_program

from fhi_al.app.run_record import run_record
from fhi_al.report import clock
from fhi_al.report.activity import ActivityRecord
from fhi_al.report.clock import Clock
from fhi_al.report.journal import Journal

# Structures that members train on, each the last of so many reference calculations.
_STEPS_PER_POINT = 4
_MEMBERS = 2


def write_inputs(folder: Path, n_labels: int) -> None:
    """Ethanol with about so many labels."""
    # The rest is left for active learning.
    n_samples = max(2, n_labels * 9 // 10 // _STEPS_PER_POINT // _MEMBERS)
    settings = {
        "ACTIVE_LEARNING": {
            **{"reference_engine": "tblite", "reference_method": "GFN2-xTB"},
            **{"desired_acc": 0.001, "lambda": 1000.0, "ensemble_size": _MEMBERS},
            **{"initial_sampling": "aimd", "n_samples": n_samples},
            **{"skip_step_initial": _STEPS_PER_POINT, "max_initial_epochs": 2},
            **{"intermediate_epochs": 2, "num_trajectories": 4, "max_MD_steps": 400},
            **{"skip_step_mlff": 10, "max_epochs_worker": 1, "threshold_warmup": 4},
            **{"label_budget": n_labels, "initial_share": 0.95, "sanity_skip": 100},
            **{"max_final_epochs": 2, "final_test": 0, "test_ratio": 0.1},
        },
        "MD": {"temperature": 500, "timestep": 0.5, "seed": 1},
    }
    mace = yaml.safe_load((EXAMPLES / "ethanol" / "mace_settings.yaml").read_text())
    mace["ARCHITECTURE"] |= {"num_channels": 8, "max_ell": 2, "r_max": 4.0}
    folder.mkdir(parents=True)
    (folder / "active_learning_settings.yaml").write_text(yaml.safe_dump(settings))
    (folder / "mace_settings.yaml").write_text(yaml.safe_dump(mace))
    shutil.copy(EXAMPLES / "ethanol" / "geometry.in", folder)


def seconds_of_report(run: Path, target: Path) -> float:
    """Of the command in a process of its own."""
    program = [str(Path(sys.executable).parent / "FHI_AL-report"), str(run), "-o", str(target)]
    started = time.perf_counter()
    subprocess.run(program, check=True, capture_output=True)
    return time.perf_counter() - started


def seconds_of_look(folder: Path, n: int = 2000) -> tuple[float, float]:
    """At the counters of 64 ranks: one that adds a line, and one that adds none."""
    stopwatch, journal = Clock(), Journal(folder / "journal.jsonl")
    busy = {"labels": dict.fromkeys(range(64), 0.0)}
    record = ActivityRecord(
        folder / "activity.jsonl", stopwatch, journal, lambda: busy, lambda: 1000
    )
    record.begin(["labels"] * 64)
    started = time.perf_counter()
    for _ in range(n):
        with stopwatch.section(clock.MD):
            pass
    idle = (time.perf_counter() - started) / n
    started = time.perf_counter()
    for k in range(n):
        busy["labels"] = dict.fromkeys(range(64), float(k))
        record.close()  # adds a line whenever it is called
    journal.close()
    return (time.perf_counter() - started) / n, idle


def main() -> None:
    """Make the run if it is not there, then measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--folder", type=Path, default=Path("report_page"))
    parser.add_argument("--labels", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    run = given.folder / f"labels_{given.labels}"
    if not run_is_done(run):
        shutil.rmtree(run, ignore_errors=True)
        write_inputs(run, given.labels)
        run_program(run, 1)
    record = run_record(run)
    target = given.folder / "report.html"
    seconds = [seconds_of_report(run, target) for _ in range(given.repeats)]
    with tempfile.TemporaryDirectory() as folder:
        adds, idle = seconds_of_look(Path(folder))
    wall_s = sum(launch.lasted_s for launch in record.launches)
    n_looks = sum(len(launch.looks) for launch in record.launches)
    lines = [
        "| labels | checks along MD | report, s (least, most) | MB | lines of activity.jsonl in "
        "the run's seconds | a line, 64 ranks, µs | a look without a line, µs |",
        "|---|---|---|---|---|---|---|",
        f"| {len(record.labels)} | {len(record.events.of('check'))} "
        f"| {statistics.median(seconds):.2f} ({min(seconds):.2f}, {max(seconds):.2f}) "
        f"| {target.stat().st_size / 1e6:.2f} | {n_looks} in {wall_s:.0f} "
        f"| {1e6 * adds:.0f} | {1e6 * idle:.1f} |",
    ]
    (given.folder / "report_page.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def run_is_done(run: Path) -> bool:
    """Whether the run is there, to its end."""
    return (run / "restart").is_dir() and run_record(run).is_done


if __name__ == "__main__":
    main()
