"""What the options of the selection are worth in labels, on ethanol at 500 K.

    python benchmarks/selection_options.py [--folder DIR] [--seeds 0 1 2] [--only NAME ...]
        [--report]

Each option is a run of the program that differs in it alone from the run with mean forces of
benchmarks/label_efficiency.py, or from one that trains 3 epochs for a new point; it shares that
benchmark's systems, test set and training of the ensembles that are compared.  "Trained longer"
trains these four times as long.
Random labels are drawn, for each option, from the MD of its own run.  Every result is kept in the
folder, so that a killed benchmark goes on.  Two processes of one thread.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from label_efficiency import (
    DEFAULT,
    OURS,
    RANDOM,
    Size,
    finished,
    judged,
    needed,
    processes,
    random_labels,
    results_folder,
    run_of,
    spread,
    words,
)
from report import axes, save
from selection_systems import SYSTEMS

SYSTEM = SYSTEMS["ethanol"]
SIZE = replace(DEFAULT, n_labels=(32, 64), hot=(0, 0), n_batches=400)
LONGER = replace(SIZE, n_labels=(32, 64, 128), n_batches=1600)


@dataclass(frozen=True)
class Option:
    """What one run changes.

    Parameters
    ----------
    changed : dict
        Settings of ACTIVE_LEARNING.
    size : Size
    """

    changed: dict[str, Any] = field(default_factory=dict)
    size: Size = SIZE


# Of training for a new point; the program's default is 20, in rounds of 5.
FEW_EPOCHS = {"intermediate_epochs": 3, "max_epochs_worker": 3}
OPTIONS = {
    "as label_efficiency": Option(),
    "compared when trained longer": Option(size=replace(SIZE, n_batches=1600)),
    # A sanity check is a label, too: what it finds to be wrong is trained on.
    "calibrate": Option(
        {
            "analysis": True,
            "sanity_skip": 400,
            "sanity_action": "add",
            "calibrate": True,
            "calibration_warmup": 10,
            "calibrated_threshold": 0.6,
        }
    ),
    "3 epochs for a point": Option(FEW_EPOCHS),
    "3 epochs, by index, duplicates too": Option(
        FEW_EPOCHS | {"candidate_order": "index", "duplicate_distance": 0.0}
    ),
    "3 epochs, moving average": Option(FEW_EPOCHS | {"threshold_type": "moving_average"}),
    "3 epochs, initial dataset of 24": Option(FEW_EPOCHS | {"n_samples": 8}),
    "3 epochs, compared when trained longer": Option(FEW_EPOCHS, LONGER),
    "9 epochs": Option({"intermediate_epochs": 9, "max_epochs_worker": 9}),
}


def most(name: str) -> int:
    """The largest number of labels of an option."""
    return max(OPTIONS[name].size.n_labels)


def folder_of(folder: Path, name: str) -> Path:
    """Where the results of an option are kept."""
    return results_folder(folder, OPTIONS[name].size, OPTIONS[name].changed)


def one_seed(folder: Path, name: str, seed: int) -> None:
    """All results of an option and a seed that are not in the folder yet."""
    import torch

    torch.set_num_threads(1)
    option, here = OPTIONS[name], folder_of(folder, name) / f"{SYSTEM.name}_{seed}"
    ours = run_of(here, SYSTEM, seed, "mean", option.size, option.changed)
    drawn = random_labels(SYSTEM, ours, seed, most(name))
    for n in option.size.n_labels:
        judged(here, SYSTEM, OURS, ours.labels[:n], seed, option.size)
        judged(here, SYSTEM, RANDOM, drawn[:n], seed, option.size)


def seeds_of(folder: Path, name: str) -> list[int]:
    """Seeds whose results are all there."""
    return finished(folder_of(folder, name), SYSTEM.name, OPTIONS[name].size, RANDOM)


def read(folder: Path, name: str, method: str, n: int) -> list[dict[str, Any]]:
    """Results of the finished seeds."""
    here = folder_of(folder, name)
    files = [here / f"{SYSTEM.name}_{k}" / f"{method}_{n}.json" for k in seeds_of(folder, name)]
    return [json.loads(file.read_text()) for file in files]


def table(folder: Path) -> list[str]:
    """Errors, and labels for the error that random selection has with the most, in Markdown."""
    lines = [
        "| option (seeds) | labels | FHI_AL: MAE, worst 1 % | random: MAE, worst 1 % "
        "| FHI_AL needs for random's MAE |",
        "|---|---|---|---|---|",
    ]
    for name, option in OPTIONS.items():
        seeds = seeds_of(folder, name)
        if not seeds:
            continue
        sizes = option.size.n_labels
        mine = {n: read(folder, name, OURS, n) for n in sizes}
        for n in sizes:
            other = read(folder, name, RANDOM, n)
            reached = needed(sizes, mine, other)
            cells = ", ".join(words(value, option.size) for value in reached)
            lines.append(
                f"| {name} ({', '.join(map(str, seeds))}) | {n} "
                f"| {spread(mine[n], 'mae')}, {spread(mine[n], 'worst')} "
                f"| {spread(other, 'mae')}, {spread(other, 'worst')} | {cells} |"
            )
    return lines


def figure(folder: Path, path: Path) -> None:
    """Errors of the program and of random labels after the most labels, by option."""
    done = [name for name in OPTIONS if seeds_of(folder, name)]
    made, (axis,) = axes(height=0.6 * len(done) + 1.2)
    for shift, method in ((-0.12, OURS), (0.12, RANDOM)):
        found = [
            1000 * np.array([result["mae"] for result in read(folder, name, method, most(name))])
            for name in done
        ]
        axis.errorbar(
            [values.mean() for values in found],
            np.arange(len(done)) + shift,
            xerr=[values.std() for values in found],
            fmt="o",
            label=method,
        )
    axis.set_yticks(range(len(done)), [f"{name}, {most(name)}" for name in done])
    axis.invert_yaxis()
    axis.set_xlabel("force MAE (meV/Å)")
    axis.legend()
    save(made, path)


def compute(folder: Path, names: list[str], seeds: list[int]) -> None:
    """All results that are not there yet."""
    with processes() as pool:
        jobs = [pool.submit(one_seed, folder, name, seed) for seed in seeds for name in names]
        for job in jobs:
            job.result()


def main() -> None:
    """Compute what is missing, then write the table and the figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--folder", type=Path, default=Path("selection_options"))
    parser.add_argument("--seeds", type=int, nargs="+", choices=DEFAULT.seeds, default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=OPTIONS, default=list(OPTIONS))
    parser.add_argument("--report", action="store_true", help="of finished seeds; compute nothing")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if not given.report:
        compute(given.folder, given.only, given.seeds)
    text = "\n".join(table(given.folder)) + "\n"
    (given.folder / "selection_options.md").write_text(text)
    figure(given.folder, given.folder / "selection_options.png")
    print(text)


if __name__ == "__main__":
    main()
