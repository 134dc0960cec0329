"""What keys of active learning are worth, with the same number of labels.

    python benchmarks/active_learning_defaults.py [--folder DIR] [--seeds 1 2 3]
        [--systems ethanol methanol diamond] [--only WAY ...] [--report] [--minutes M]

Whole runs up to the end of active learning with one thing changed at a time, all with the same
`label_budget`.  What their labels are worth is the error of a single member that is trained on
them from initial weights in the same way (benchmarks/training_defaults.py) on structures of an
independent MD.  One thread.  Every result is kept, so that a killed benchmark goes on.  Writes
active_learning_defaults.md.
"""

from __future__ import annotations

import logging
import re
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from label_sets import (
    CASES,
    SEEDS,
    Case,
    finish_run,
    independent,
    kept_by_seed,
    labels_in,
    settings,
)
from train_member import converge, split
from training_defaults import BASE as TRAINED_BY
from training_defaults import BASE_TRAINING, OPTIONS, command, ratio, spread

from fhi_al.active_learning.options import ConvergenceOptions
from fhi_al.models.torch_set_up import torch_set_up

# The example of diamond samples by MD with the reference method and asks for few labels afterwards.
BUDGET: dict[str, Any] = {
    "label_budget": 30,
    "initial_share": 0.5,
    "desired_acc": 0.005,
    "lambda": 10.0,
    "initial_sampling": "foundation",
    "foundation_calculator": "tblite.ase.TBLite",
    "foundation_arguments": {"method": "GFN1-xTB", "verbosity": 0},
    "skip_step_initial": 20,
    "max_MD_steps": 2400,
    "max_set_size": None,
    "max_epochs_worker": 5,
    "final_test": 0,
}
RUNS: dict[str, Case] = CASES | {
    "diamond": replace(CASES["diamond"], changed={"ACTIVE_LEARNING": BUDGET})
}
BASE = "rounds of 15, half or less of the labels, 10 epochs"
# Enough for an initial dataset that ends by its error: at lambda x 0.02 eV/A.
BY_ERROR = {"initial_share": 0.9, "desired_acc": 0.02}
WAYS: dict[str, dict[str, Any]] = {
    BASE: {},
    "rounds of 6: 6 initial labels": {"n_samples": 2, "initial_share": 0.12},
    "initial_share 0.75": {"initial_share": 0.75},
    "initial dataset to lambda 2.5": BY_ERROR | {"lambda": 2.5},
    "initial dataset to lambda 5": BY_ERROR | {"lambda": 5.0},
    "initial dataset to lambda 20": BY_ERROR | {"lambda": 20.0},
    "intermediate_epochs 2": {"intermediate_epochs": 2},
    "intermediate_epochs 30": {"intermediate_epochs": 30},
    "intermediate_gain None": {"intermediate_gain": None},
}


def one(folder: Path, system: str, changed: dict[str, Any], seed: int) -> dict[str, Any]:
    """Labels and seconds of a run, and errors of a member that is trained on its labels."""
    run = folder / f"seed_{seed}"
    finish_run(run, RUNS[system], seed, **changed)
    labels = labels_in(run)
    option, values = OPTIONS[TRAINED_BY], settings(system, BASE_TRAINING)
    options = ConvergenceOptions(option.patience, option.max_epochs, 0.0, option.valid_skip)
    sets = split(labels, option.valid_ratio, seed)
    found = converge(values, options, sets, independent(folder.parents[1], system), 1000 * seed)
    output = (run / "output.txt").read_text()
    text = re.findall(r"summary: labels: \d+ computed.*\((.*)\)", output)[-1]
    return {
        "labels": {
            name.strip(): int(n) for name, n in re.findall(r"([a-z ]+?) (\d+)(?:, |$)", text)
        },
        "used": len(labels),
        "mae": found["mae"],
        "rmse_energy": found["rmse_energy"],
        "ran": float(re.findall(r"[\d.]+", (run / "seconds.json").read_text())[0]),
    }


def results(
    folder: Path, system: str, way: str, seeds: list[int], computed: bool
) -> dict[int, dict[str, Any]]:
    """By seed."""
    here = folder / system / re.sub(r"\W+", "_", way)
    compute = partial(one, here, system, WAYS[way]) if computed else None
    return kept_by_seed(
        here, seeds, compute, lambda found: f"{1000 * found['mae']:.1f} meV/A, {found['labels']}"
    )


def table(folder: Path, system: str) -> list[str]:
    """Of one system, in Markdown."""
    lines = [
        f"### {system}",
        "",
        "| changed (seeds) | initial labels, those of active learning and checks "
        "| force MAE of a member, meV/A | against the first line "
        "| energy RMSE, meV/atom | s of the run |",
        "|---|---|---|---|---|---|",
    ]
    base = results(folder, system, BASE, list(SEEDS), computed=False)
    for way in WAYS:
        found = results(folder, system, way, list(SEEDS), computed=False)
        if not found:
            continue
        counts = []
        for each in found.values():
            initial = each["labels"].get("initial dataset", 0)
            counts.append(f"{initial} + {sum(each['labels'].values()) - initial}")
        ratios = [found[seed]["mae"] / base[seed]["mae"] for seed in found if seed in base]
        lines.append(
            f"| {way} ({len(found)}) | {', '.join(counts)} "
            f"| {spread([1000 * each['mae'] for each in found.values()], 1)} "
            f"| {ratio(ratios)} "
            f"| {spread([1000 * each['rmse_energy'] for each in found.values()], 2)} "
            f"| {np.mean([each['ran'] for each in found.values()]):.0f} |"
        )
    return lines


def main() -> None:
    """Compute what is missing, then write the tables."""
    given = command(__doc__, "active_learning", WAYS).parse_args()
    logging.disable(logging.WARNING)
    if not given.report:
        ends = time.monotonic() + 60 * given.minutes
        with torch_set_up(1):
            for seed in given.seeds:
                for way in given.only:
                    for system in given.systems:
                        if time.monotonic() < ends:
                            results(given.folder, system, way, [seed], computed=True)
    lines = [line for system in given.systems for line in (*table(given.folder, system), "")]
    (given.folder / "active_learning_defaults.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
