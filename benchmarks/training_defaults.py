"""What each option of training is worth on labels that active learning chose.

    python benchmarks/training_defaults.py [--folder DIR] [--systems ethanol methanol diamond]
        [--report] [--minutes M]

Single members train from initial weights on the labels of finished runs (benchmarks/label_sets.py)
with the program's own convergence, one option changed at a time, with three seeds (another run's
labels, other weights, other validation points for each), and are judged on structures of an
independent MD.  The long runs go on whatever the errors do: where `patience` and
`max_final_epochs` would have ended them is read from their curves.  One thread.  Every result is
kept, so that a killed benchmark goes on.  Writes training_defaults.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from label_sets import CASES, SEEDS, independent, labels_of, settings
from train_member import converge, split

from fhi_al.active_learning.convergence import COMPARED_EVERY
from fhi_al.active_learning.options import ConvergenceOptions
from fhi_al.core.convergence import Course, UnseenErrors, is_better
from fhi_al.core.stopping import convergence_stop
from fhi_al.models.torch_set_up import torch_set_up
from fhi_al.storage.atomic_file import write_atomically

LABEL_S = 60.0  # of a label, for the share of training in a run
# What options are changed from, one at a time; it stands still whatever the defaults become.
BASE = "ema, batch_size 5"
BASE_TRAINING: dict[str, Any] = {
    "batch_size": 5,
    "lr": 0.01,
    "scheduler_patience": 5,
    "lr_factor": 0.8,
    "ema": True,
    "energy_weight": 1.0,
    "forces_weight": 100.0,
    "swa": False,
}
LONG = "long"


@dataclass(frozen=True)
class Option:
    """One way to train.

    Parameters
    ----------
    training : dict
        Keys of TRAINING that differ from ``BASE_TRAINING``.
    max_epochs, patience, valid_skip : int
    valid_ratio : float
    """

    training: dict[str, Any] = field(default_factory=dict)
    max_epochs: int = 150
    patience: int = 50
    valid_skip: int = 1
    valid_ratio: float = 0.1


OPTIONS = {
    "as it was": Option({"batch_size": 10, "ema": False}, max_epochs=250),
    BASE: Option(),
    "lr 0.02": Option({"lr": 0.02}),
    "scheduler_patience 20": Option({"scheduler_patience": 20}),
    "energy_weight 10": Option({"energy_weight": 10.0}),
    "swa": Option({"swa": True}),
    "valid_ratio 0.3": Option(valid_ratio=0.3),
    LONG: Option(max_epochs=300, patience=10_000),
    "ExponentialLR, lr 0.02": Option(
        {"scheduler": "ExponentialLR", "lr_scheduler_gamma": 0.98, "lr": 0.02}
    ),
    "no ema": Option({"ema": False}),
    "batch_size 10": Option({"batch_size": 10}),
    "batch_size 2": Option({"batch_size": 2}),
    "batch_size 1": Option({"batch_size": 1}),
    "lr 0.005": Option({"lr": 0.005}),
    "lr_factor 0.5": Option({"lr_factor": 0.5}),
    "scheduler_patience 2": Option({"scheduler_patience": 2}),
    "energy_weight 100": Option({"energy_weight": 100.0}),
    "valid_ratio 0.2": Option(valid_ratio=0.2),
    "valid_skip 5": Option(valid_skip=5),
    "ema_decay 0.999": Option({"ema_decay": 0.999}),
    "long, batch_size 2": Option({"batch_size": 2}, max_epochs=300, patience=10_000),
}


def file_of(folder: Path, name: str, system: str, seed: int) -> Path:
    """Where one result is kept."""
    return folder / "defaults" / system / f"{name.replace(' ', '_').replace(',', '')}_{seed}.json"


def compute(
    folder: Path, systems: list[str], seeds: list[int], names: list[str], minutes: float
) -> None:
    """The results that are not there yet, one seed after the other."""
    ends = time.monotonic() + 60 * minutes
    for system in systems:
        test = independent(folder, system)
        for seed, name in product(seeds, names):
            option = OPTIONS[name]
            file = file_of(folder, name, system, seed)
            if file.exists() or time.monotonic() > ends:
                continue
            labels = labels_of(folder, system, seed)
            values = settings(system, BASE_TRAINING | option.training)
            start = values.training.second_stage_start(option.max_epochs)
            options = ConvergenceOptions(
                option.patience, option.max_epochs, 0.0, option.valid_skip, start
            )
            sets = split(labels, option.valid_ratio, seed)
            every = COMPARED_EVERY if name.startswith(LONG) else 0
            found = converge(values, options, sets, test, 1000 * seed, every)
            found["n_labels"] = len(labels)
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, json.dumps(found).encode())
            print(
                f"{system} {seed} {name}: {1000 * found['mae']:.1f} meV/A, "
                f"{1000 * found['rmse_energy']:.2f} meV/atom, {found['epochs']} epochs, "
                f"{found['seconds']:.0f} s",
                flush=True,
            )


def read(folder: Path, name: str, system: str) -> dict[int, dict[str, Any]]:
    """The results that there are, by seed."""
    files = {seed: file_of(folder, name, system, seed) for seed in SEEDS}
    return {seed: json.loads(file.read_text()) for seed, file in files.items() if file.exists()}


def spread(values: list[float], digits: int) -> str:
    """Mean and standard deviation over the seeds."""
    return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"


def table(folder: Path, system: str) -> list[str]:
    """Errors and times of one system in Markdown."""
    base = read(folder, BASE, system)
    lines = [
        f"### {system}",
        "",
        f"| changed (seeds) | epochs | force MAE, meV/A | against '{BASE}', by seed "
        f"| energy RMSE, meV/atom | CPU s | of the labels at {LABEL_S:g} s each |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in OPTIONS:
        found = read(folder, name, system)
        if not found:
            continue
        maes = [1000 * one["mae"] for one in found.values()]
        energies = [1000 * one["rmse_energy"] for one in found.values()]
        ratios = [f"{found[s]['mae'] / base[s]['mae']:.2f}" for s in found if s in base]
        seconds = [one["seconds"] for one in found.values()]
        share = np.mean([one["seconds"] / (LABEL_S * one["n_labels"]) for one in found.values()])
        lines.append(
            f"| {name} ({len(found)}) | {', '.join(str(o['epochs']) for o in found.values())} "
            f"| {spread(maes, 1)} | {', '.join(ratios)} | {spread(energies, 2)} "
            f"| {np.mean(seconds):.0f} | {100 * share:.1f} % |"
        )
    return lines


def in_short(folder: Path, systems: list[str]) -> list[str]:
    """Errors against those of BASE with the same seed: geometric means, least and most."""
    lines = [
        f"### Against '{BASE}': force MAE of {', '.join(systems)}",
        "",
        f"| changed | {' | '.join(systems)} | all | energy RMSE, all | CPU s, all |",
        f"|---|{'---|' * (len(systems) + 3)}",
    ]
    base = {system: read(folder, BASE, system) for system in systems}
    for name in OPTIONS:
        pairs = {
            system: [
                (one, base[system][seed])
                for seed, one in read(folder, name, system).items()
                if seed in base[system]
            ]
            for system in systems
        }
        cells = [ratio([one["mae"] / b["mae"] for one, b in pairs[each]]) for each in systems]
        every = [pair for found in pairs.values() for pair in found]
        cells += [
            ratio([one[key] / b[key] for one, b in every])
            for key in ("mae", "rmse_energy", "seconds")
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def ratio(values: list[float]) -> str:
    """Geometric mean of ratios, the least and the most."""
    if not values:
        return ""
    mean = np.exp(np.mean(np.log(values)))
    return f"{mean:.2f} ({min(values):.2f} to {max(values):.2f})"


def ended(result: dict[str, Any], patience: int, max_epochs: int) -> tuple[int, float]:
    """Epoch at which a long run would have ended, and its error on the independent structures.

    By the rules of the program: errors of forces, energies and loss that no longer fall, and the
    best weights of those that are compared.
    """
    judged = dict(map(tuple, result["curve"]))
    course = Course.begun(0, np.inf, np.inf)
    best, error = UnseenErrors(), np.inf
    for epoch, forces, energy, loss in result["validations"]:
        course = course.after(epoch, forces, energy, loss, 0.0)
        if epoch in judged and is_better(UnseenErrors(forces, energy), best, with_energies=True):
            best, error = UnseenErrors(forces, energy), judged[epoch]
        if convergence_stop(course, patience, max_epochs) is not None:
            break
    return course.epoch, error


def table_of_stops(folder: Path, system: str) -> list[str]:
    """Where the long runs would have ended, by `patience` and `max_final_epochs`."""
    found = read(folder, LONG, system)
    if not found:
        return []
    lines = [
        f"### {system}: where {len(found)} long run(s) would have ended",
        "",
        "| patience | max_final_epochs | ends after epochs | force MAE, meV/A | CPU s |",
        "|---|---|---|---|---|",
    ]
    for patience in (10, 20, 30, 50, 100, 10_000):
        for most in (50, 100, 150, 200, 250, 300):
            if patience < 10_000 and most < 300:
                continue
            ends = [ended(one, patience, most) for one in found.values()]
            seconds = [
                one["seconds"] * epoch / one["epochs"]
                for one, (epoch, _) in zip(found.values(), ends, strict=True)
            ]
            lines.append(
                f"| {'none' if patience == 10_000 else patience} | {most} "
                f"| {', '.join(str(epoch) for epoch, _ in ends)} "
                f"| {spread([1000 * error for _, error in ends], 1)} | {np.mean(seconds):.0f} |"
            )
    return lines


def command(description: str | None, folder: str, ways: Collection[str]) -> argparse.ArgumentParser:
    """Arguments of a benchmark that compares ways, by systems and seeds."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n", 1)[0])
    parser.add_argument("--folder", type=Path, default=Path(folder))
    parser.add_argument("--systems", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--seeds", type=int, nargs="+", choices=SEEDS, default=list(SEEDS))
    parser.add_argument("--only", nargs="+", choices=ways, default=list(ways))
    parser.add_argument("--minutes", type=float, default=np.inf, help="begin no more after that")
    parser.add_argument("--report", action="store_true", help="of what is there; compute nothing")
    return parser


def main() -> None:
    """Compute what is missing, then write the tables."""
    given = command(__doc__, "training", OPTIONS).parse_args()
    logging.disable(logging.WARNING)
    if not given.report:
        with torch_set_up(1):
            compute(given.folder, given.systems, given.seeds, given.only, given.minutes)
    lines = [*in_short(given.folder, given.systems), ""]
    for system in given.systems:
        lines += [*table(given.folder, system), "", *table_of_stops(given.folder, system), ""]
    (given.folder / "training_defaults.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
