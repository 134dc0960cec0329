"""Ladders of temperatures against one temperature: errors at 300, 500 and 800 K, equal labels.

    python benchmarks/temperature_ladder.py [--folder DIR] [--seeds 1 2 3] [--ways WAY ...]
        [--tiny] [--report]

Runs of examples/ethanol to their end, with as many labels each: all six trajectories at 300, 500
or 800 K, or dealt to several temperatures (``ladder``: ``temperature: [300, 500, 800]``), which
the sampling of the initial dataset follows, too.  Their final models are judged on structures of
independent MD of the reference method at each of these temperatures.  Every result is kept, so
that a killed benchmark goes on.  Writes temperature_ladder.md.  ``--tiny`` only shows that it runs.
"""

from __future__ import annotations

import argparse
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from label_sets import CASES, Case, kept_by_seed, run_program
from mace.calculators import MACECalculator
from selection_systems import labelled, sampled

from fhi_al.core.label import Label

TEMPERATURES = (300.0, 500.0, 800.0)
WAYS: dict[str, Any] = {
    "300 K": 300.0,
    "500 K": 500.0,
    "800 K": 800.0,
    "ladder": list(TEMPERATURES),
    "ladder 300, 800 K": [300.0, 800.0],
    "ladder 500, 800 K": [500.0, 800.0],
}
# The budget ends a run, not the length of its trajectories: two of each block.
AS_LONG_AS_IT_TAKES = {"num_trajectories": 6, "max_MD_steps": 50_000, "sanity_skip": 600}
TINY = {
    "label_budget": 24,
    "n_samples": 3,
    "max_initial_epochs": 4,
    "intermediate_epochs": 2,
    "max_final_epochs": 4,
    "max_epochs_worker": 2,
}


def case_of(temperature: Any, tiny: bool) -> Case:
    """The example at a temperature, or at several in turn."""
    changed = {
        "ACTIVE_LEARNING": AS_LONG_AS_IT_TAKES | (TINY if tiny else {}),
        "MD": {"temperature": temperature},
    }
    test = (1, 4, 20, 100) if tiny else CASES["ethanol"].test
    return replace(CASES["ethanol"], changed=changed, test=test)


def independent(folder: Path, temperature: float, case: Case) -> list[Label]:
    """Labelled structures of MD with the reference method at a temperature."""
    file = folder / f"test_{temperature:g}K.npy"
    if not file.exists():
        n_trajectories, n_frames, stride, n_before = case.test
        frames = []
        for seed in range(n_trajectories):
            md, reference = case.system.md(temperature), case.system.reference()
            frames += sampled(md, reference, n_frames, stride, 900 + seed, n_before)
        with file.open("wb") as stream:
            np.save(stream, np.array(frames))
    return labelled(case.system, list(np.load(file)))


def force_errors(models: list[Path], labels: list[Label]) -> dict[str, float]:
    """MAE of the mean force of some models, and the mean error of the worst 1 %, in meV/A."""
    calculator = MACECalculator(
        model_paths=[str(path) for path in models], device="cpu", default_dtype="float64"
    )
    differences = []
    for label in labels:
        atoms = Atoms(label.numbers, label.positions)
        atoms.calc = calculator
        differences.append(np.abs(atoms.get_forces() - label.forces).ravel())
    errors = np.sort(np.concatenate(differences))
    worst = errors[-max(1, len(errors) // 100) :]
    return {"mae": 1000 * float(errors.mean()), "worst": 1000 * float(worst.mean())}


def place_of(folder: Path, name: str) -> Path:
    """The folder of a way's runs."""
    return folder / name.replace(",", "").replace(" ", "_")


def one_seed(folder: Path, name: str, seed: int, tiny: bool) -> dict[str, Any]:
    """Run the example in one way with a seed, and judge its models."""
    here, case = place_of(folder, name) / f"run_{seed}", case_of(WAYS[name], tiny)
    shutil.rmtree(here, ignore_errors=True)
    case.write_run_folder(here, seed)
    seconds = run_program(here)
    output = (here / "output.txt").read_text()
    models = sorted((here / "model").glob("*.model"))
    found = {
        f"{kelvin:g}": force_errors(models, independent(folder, kelvin, case))
        for kelvin in TEMPERATURES
    }
    n_labels = int(re.findall(r"summary: labels: (\d+) computed", output)[-1])
    return {"seconds": seconds, "labels": n_labels, "errors": found}


def table(found: dict[str, dict[int, dict[str, Any]]]) -> list[str]:
    """Results in Markdown: each seed, and the mean over the seeds."""
    at = [f"{kelvin:g}" for kelvin in TEMPERATURES]
    lines = [
        "| MD of the run | seed | labels | "
        + " | ".join(f"{kelvin} K: force MAE, worst 1 % (meV/A)" for kelvin in at)
        + " | s |",
        "|" + "---|" * (4 + len(at)),
    ]
    for name, by_seed in found.items():
        rows = [(str(seed), one) for seed, one in by_seed.items()]
        if len(rows) > 1:
            rows.append(("mean", _mean([one for _, one in rows])))
        for seed, one in rows:
            errors = (one["errors"][kelvin] for kelvin in at)
            cells = [f"{each['mae']:.1f}, {each['worst']:.0f}" for each in errors]
            lines.append(
                f"| {name} | {seed} | {one['labels']:g} | {' | '.join(cells)} "
                f"| {one['seconds']:.0f} |"
            )
    return lines


def _mean(results: list[Any]) -> Any:
    if isinstance(results[0], dict):
        return {key: _mean([one[key] for one in results]) for key in results[0]}
    return float(np.mean(results))


def main() -> None:
    """Compute what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--folder", type=Path, default=Path("temperature_ladder"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--tiny", action="store_true", help="as little as possible")
    parser.add_argument("--report", action="store_true", help="of what is there; compute nothing")
    given = parser.parse_args()
    found = {}
    for name in given.ways:

        def compute(seed: int, name: str = name) -> dict[str, Any]:
            return one_seed(given.folder, name, seed, given.tiny)

        place = place_of(given.folder, name)
        kept = kept_by_seed(place, given.seeds, None if given.report else compute)
        if kept:
            found[name] = kept
    lines = table(found)
    (given.folder / "temperature_ladder.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
