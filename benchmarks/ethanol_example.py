"""The ethanol example with three seeds: labels, errors on independent structures, seconds.

    python benchmarks/ethanol_example.py [--folder DIR] [--ranks 2] [--seeds 1 2 3] [--report]
        [--changed KEY=VALUE ...]

Copies of examples/ethanol that differ in ``MD.seed`` and ``GENERAL.seed``; seed 1 is the example as
it is, but for the keys of ACTIVE_LEARNING that are given in ``--changed``.  The errors are those
of FHI_AL-evaluate on an independent MD.  Every result is kept, so that a killed benchmark goes on.
Writes ethanol_example.md, into a folder of its own for each set of changes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from label_sets import CASES, EXAMPLES, SEEDS, kept_by_seed, run_program


def one_seed(folder: Path, seed: int, n_ranks: int, changed: dict[str, Any]) -> dict[str, Any]:
    """Run the example with a seed, and judge its models."""
    here = folder / f"seed_{seed}"
    shutil.rmtree(here, ignore_errors=True)
    CASES["ethanol"].write_run_folder(here, seed, **changed)
    shutil.copy(EXAMPLES / "ethanol" / "geometry.in", here)
    begun = os.times()
    seconds = run_program(here, n_ranks)
    ended = os.times()
    output = (here / "output.txt").read_text()
    errors = errors_of(here, folder)
    found = re.findall(r"summary: labels: (\d+) computed.*\((.*)\)", output)[-1]
    parts = dict(re.findall(r"([a-z ]+?) (\d+)(?:, |$)", found[1]))
    reported = re.findall(r"summary: cross-validation.*forces ([\d.]+) meV/A", output)
    return {
        "seconds": seconds,
        "cpu": ended.children_user - begun.children_user,
        "labels": int(found[0]),
        "by phase": {name.strip(): int(number) for name, number in parts.items()},
        **errors,
        "reported": float(reported[-1]) if reported else None,
        "wall": re.findall(r"summary: wall time (.*)", output)[-1],
    }


def errors_of(run: Path, folder: Path) -> dict[str, Any]:
    """Errors by FHI_AL-evaluate on an independent MD, the same for all seeds and computed once."""
    file = folder / "independent.xyz"
    if not file.exists():
        evaluated(run, "md", "--structures", "200")
        shutil.copy(run / "evaluation" / "md.xyz", file)
    errors = evaluated(run, str(file))["errors"]
    mean = errors.pop("ensemble mean")
    return {
        "members": [1000 * each["forces"]["mae"] for each in errors.values()],
        "mean": 1000 * mean["forces"]["mae"],
        "energy": 1000 * mean["energy_per_atom"]["mae"],
    }


def evaluated(run: Path, on: str, *options: str) -> dict[str, Any]:
    """What FHI_AL-evaluate says of the run's final models."""
    command = ["FHI_AL-evaluate", "--workdir", str(run), "--on", on, "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def table(found: dict[int, dict[str, Any]], n_ranks: int) -> list[str]:
    """Results in Markdown."""
    lines = [
        "| seed | labels: initial, active learning, sanity checks "
        "| mean of the models, meV/A | each model, meV/A | energy MAE, meV/atom "
        f"| reported by the run, meV/A | CPU s of {n_ranks} rank(s) | wall s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for seed, one in found.items():
        phases = ", ".join(str(number) for number in one["by phase"].values())
        members = ", ".join(f"{error:.1f}" for error in one["members"])
        lines.append(
            f"| {seed} | {one['labels']}: {phases} | {one['mean']:.1f} | {members} "
            f"| {one['energy']:.2f} | {one['reported']} | {one['cpu']:.0f} | {one['seconds']:.0f} |"
        )
    return lines


def pair(text: str) -> tuple[str, str]:
    """What stands before and after the first ``=``."""
    key, equals, value = text.partition("=")
    if not equals:
        raise SystemExit(f"--changed {text}: expected KEY=VALUE")
    return key, value


def main() -> None:
    """Compute what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--folder", type=Path, default=Path("ethanol_example"))
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--report", action="store_true", help="of what is there; compute nothing")
    parser.add_argument("--changed", nargs="+", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    changed = {key: yaml.safe_load(value) for key, value in map(pair, given.changed)}
    folder = given.folder / "_".join(given.changed) if changed else given.folder
    compute = partial(one_seed, folder, n_ranks=given.ranks, changed=changed)
    found = kept_by_seed(folder, given.seeds, None if given.report else compute)
    lines = table(found, given.ranks)
    (folder / "ethanol_example.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
