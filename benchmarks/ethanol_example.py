"""The ethanol example with three seeds: labels, errors on independent structures, seconds.

    python benchmarks/ethanol_example.py [--folder DIR] [--ranks 2] [--seeds 1 2 3] [--report]

Copies of examples/ethanol that differ in ``MD.seed`` and ``GENERAL.seed``; seed 1 is the example as
it is.  The errors are those that its own test_on_independent_md.py prints.  Every result is kept,
so that a killed benchmark goes on.  Writes ethanol_example.md.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from label_sets import CASES, EXAMPLES, SEEDS, run_program

from fhi_al.storage.atomic_file import write_atomically


def one_seed(folder: Path, seed: int, n_ranks: int) -> dict[str, Any]:
    """Run the example with a seed and its test script."""
    here = folder / f"seed_{seed}"
    shutil.rmtree(here, ignore_errors=True)
    CASES["ethanol"].write_run_folder(here, seed)
    shutil.copy(EXAMPLES / "ethanol" / "geometry.in", here)
    seconds = run_program(here, n_ranks)
    output = (here / "output.txt").read_text()
    test = subprocess.run(
        [sys.executable, EXAMPLES / "ethanol" / "test_on_independent_md.py", "--folder", here],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.findall(r"summary: labels: (\d+) computed.*\((.*)\)", output)[-1]
    parts = dict(re.findall(r"([a-z ]+?) (\d+)(?:, |$)", found[1]))
    reported = re.findall(r"summary: cross-validation.*forces ([\d.]+) meV/A", output)
    return {
        "seconds": seconds,
        "labels": int(found[0]),
        "by phase": {name.strip(): int(number) for name, number in parts.items()},
        "members": [float(e) for e in re.findall(r"\.model +forces +([\d.]+)", test)],
        "mean": float(re.findall(r"ensemble mean +forces +([\d.]+)", test)[0]),
        "energy": float(re.findall(r"ensemble mean.*energy +([\d.]+)", test)[0]),
        "reported": float(reported[-1]) if reported else None,
        "wall": re.findall(r"summary: wall time (.*)", output)[-1],
    }


def table(found: dict[int, dict[str, Any]], n_ranks: int) -> list[str]:
    """Results in Markdown."""
    lines = [
        "| seed | labels: initial, active learning, sanity checks "
        "| mean of the models, meV/A | each model, meV/A | energy MAE, meV/atom "
        f"| reported by the run, meV/A | seconds, {n_ranks} rank(s) |",
        "|---|---|---|---|---|---|---|",
    ]
    for seed, one in found.items():
        phases = ", ".join(str(number) for number in one["by phase"].values())
        members = ", ".join(f"{error:.1f}" for error in one["members"])
        lines.append(
            f"| {seed} | {one['labels']}: {phases} | {one['mean']:.1f} | {members} "
            f"| {one['energy']:.2f} | {one['reported']} | {one['seconds']:.0f} |"
        )
    return lines


def main() -> None:
    """Compute what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--folder", type=Path, default=Path("ethanol_example"))
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--report", action="store_true", help="of what is there; compute nothing")
    given = parser.parse_args()
    found = {}
    for seed in given.seeds:
        file = given.folder / f"seed_{seed}.json"
        if not file.exists() and not given.report:
            given.folder.mkdir(parents=True, exist_ok=True)
            result = one_seed(given.folder, seed, given.ranks)
            write_atomically(file, json.dumps(result).encode())
            print(f"seed {seed}: {result}", flush=True)
        if file.exists():
            found[seed] = json.loads(file.read_text())
    lines = table(found, given.ranks)
    (given.folder / "ethanol_example.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
