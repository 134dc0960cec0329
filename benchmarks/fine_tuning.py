"""Fine-tuning a foundation model against training from scratch, through the program itself.

    python benchmarks/fine_tuning.py labels   errors against labels (4 8 16 32 64)
    python benchmarks/fine_tuning.py initial  with and without an initial dataset (the same)
    python benchmarks/fine_tuning.py members  how members are made to differ (16)
    python benchmarks/fine_tuning.py ways     naive, frozen, lora, replay (32)
        [--labels N ...] [--folder DIR] [--systems ethanol acetamide] [--seeds 1 2 3] [--quick]
        [--only WAY ...] [--report]

Every result is a whole run of ``FHI_AL`` with so many labels, by active learning and the final
convergence with the program's defaults (fine_tuning_runs.py), on one rank and thread.  Structures
of the initial dataset come from MD on the foundation model whoever learns from them, two for each
member in the first round: fewer labels than that are possible only without an initial dataset.
Errors are those of the ensemble's mean force on 200 structures of MD with the reference method at
500 K.  ``members`` compares the spread of the members with true errors there and in MD at 1000 K.
``ways`` also shows errors on structures that the foundation model knew.  Every result is kept, so
that a killed benchmark goes on.  Each command writes fine_tuning_COMMAND.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fine_tuning_runs import (
    NO_INITIAL_DATASET,
    QUICK,
    SYSTEMS,
    Size,
    Way,
    finished_run,
    judged,
    learnt_method,
    small_foundation,
    test_sets,
)
from label_sets import kept_by_seed
from selection_statistics import labels_to_reach

from fhi_al.core.calibration import calibration

SCRATCH, FINE_TUNED, NO_INITIAL = "from scratch", "fine-tuned", "fine-tuned, no initial dataset"
SAMPLED = "from scratch, sampled by the foundation model"
FOUNDATION = "foundation model"
SETS = ("test", "hot", "known")
LEARNERS = {
    SCRATCH: Way(fine_tuned=False),
    # Next to no active learning, which random weights begin badly.
    SAMPLED: Way(fine_tuned=False, active_learning={"initial_share": 0.95}),
    FINE_TUNED: Way(),
    NO_INITIAL: Way(active_learning=NO_INITIAL_DATASET),
}


def _members(sets: str, **training: Any) -> Way:
    # With an initial dataset: without one, members with the same readouts would never differ.
    return Way(active_learning={"initial_sets": sets}, training=training, n_members=4)


MEMBERS = {
    "readouts kept": _members("shared", readouts="kept"),
    "readouts kept, bootstrap": _members("bootstrap", readouts="kept"),
    "readouts kept, own sets": _members("own", readouts="kept"),
    "readouts perturbed": _members("shared", readouts="perturbed"),
    "readouts perturbed, bootstrap": _members("bootstrap", readouts="perturbed"),
    "readouts reinitialised": _members("shared", readouts="reinitialised"),
    "lora, readouts kept": _members("shared", readouts="kept", fine_tuning="lora"),
    SCRATCH: Way(fine_tuned=False, n_members=4),
}
WAYS = {
    way: Way(active_learning=NO_INITIAL_DATASET, training={"fine_tuning": way})
    for way in ("naive", "frozen", "lora", "replay")
} | {SCRATCH: LEARNERS[SCRATCH]}

# By command: what is compared, and numbers of labels by default.
COMMANDS: dict[str, tuple[dict[str, Way], tuple[int, ...]]] = {
    "labels": (LEARNERS, (4, 8, 16, 32, 64)),
    "initial": ({name: LEARNERS[name] for name in (FINE_TUNED, NO_INITIAL)}, (4, 8, 16, 32, 64)),
    "members": (MEMBERS, (16,)),
    "ways": (WAYS, (32,)),
}
# Results by way, number of labels and seed.
Results = dict[str, dict[int, dict[int, dict[str, Any]]]]


def place_of(folder: Path, system: str, name: str, way: Way, n_labels: int) -> Path:
    """Where the results of a way are kept: commands that share one share its runs."""
    words = f"{name}_{way.n_members}_members_{n_labels}".replace(",", "").replace(" ", "_")
    return folder / system / words


def results(
    folder: Path,
    system: str,
    ways: dict[str, Way],
    n_labels: Sequence[int],
    seeds: Sequence[int],
    size: Size | None,
) -> Results:
    """Those that are kept, and, unless `size` is None, those that are missing, seed by seed."""
    found: Results = {name: {n: {} for n in n_labels} for name in ways}
    for seed in seeds:
        for n in n_labels:
            for name, way in ways.items():
                if not way.takes(n):
                    continue
                place = place_of(folder, system, name, way, n)

                def compute(
                    seed: int, place: Path = place, way: Way = way, n: int = n
                ) -> dict[str, Any]:
                    assert size is not None
                    here = place / f"run_{seed}"
                    return finished_run(here, SYSTEMS[system], way, n, seed, size)

                found[name][n] |= kept_by_seed(place, [seed], compute if size else None, _in_short)
    return found


def _in_short(result: dict[str, Any]) -> str:
    errors = ", ".join(f"{key} {1000 * result[key]['mae']:.0f}" for key in SETS)
    return f"{result['labels']} labels, {result['cpu']:.0f} s, meV/A: {errors}"


def spread(values: Sequence[float], factor: float = 1000.0, digits: int = 0) -> str:
    """Mean and standard deviation over seeds; errors in meV/A."""
    if not values:
        return "-"
    scaled = factor * np.array(values)
    return f"{scaled.mean():.{digits}f} ± {scaled.std():.{digits}f}"


def learning_curves(found: Results, foundation: dict[str, Any]) -> list[str]:
    """Errors against labels, and how many labels each way needs for the errors of the first."""
    names = list(found)
    first, *others = names
    numbers = list(found[first])
    as_it_is = (
        f"{FOUNDATION} as it is: {1000 * foundation['test']['mae']:.0f} meV/A; "
        f"the method that it has learnt: {1000 * foundation['learnt_method']:.0f}"
    )
    lines = ["| labels | " + " | ".join(f"{name}: force MAE, meV/A" for name in names)]
    lines[0] += " | " + " | ".join(f"{name}: CPU s" for name in names) + " |"
    lines.append("|---|" + "---|" * (2 * len(names)))
    for n in numbers:
        cells = [spread([one["test"]["mae"] for one in found[name][n].values()]) for name in names]
        cells += [spread([one["cpu"] for one in found[name][n].values()], 1.0) for name in names]
        lines.append(f"| {n} | {' | '.join(cells)} |")
    lines += ["", f"The {as_it_is}.", ""]
    for name in others:
        for n in numbers:
            needed = [
                _needed(found[name], seed, one["test"]["mae"])
                for seed, one in found[first][n].items()
            ]
            if set(needed) - {"?"}:
                lines.append(
                    f"* {name}, by seed: {', '.join(needed)} labels for the error of {n} {first}."
                )
    return lines


def _needed(by_labels: dict[int, dict[int, dict[str, Any]]], seed: int, target: float) -> str:
    """Labels to reach an error; bounds where it was not reached, or by the first already."""
    runs = {n: by_seed[seed]["test"]["mae"] for n, by_seed in by_labels.items() if seed in by_seed}
    if not runs:
        return "?"
    found = labels_to_reach(list(runs), list(runs.values()), target)
    if np.isnan(found):
        return f"> {max(runs)}"
    return f"≤ {found:.0f}" if found == min(runs) else f"{found:.0f}"


def spread_and_error(found: Results, _: dict[str, Any]) -> list[str]:
    """What the spread of each ensemble says of its errors."""
    lines = [
        "| members | labels | force MAE, meV/A | of one member | Spearman, 500 K | 500 and 1000 K "
        "| error / spread | within 1, 2 scales |",
        "|" + "---|" * 8,
    ]
    for name, by_labels in found.items():
        for n, by_seed in by_labels.items():
            runs = list(by_seed.values())
            pairs = [one["test"]["pairs"] for one in runs]
            every = [one["test"]["pairs"] + one["hot"]["pairs"] for one in runs]
            alone, both = ([calibration(each) for each in some] for some in (pairs, every))
            known = [each for each in both if each is not None]
            within = [
                f"{100 * np.mean([getattr(each, key) for each in known]):.0f} %" if known else "-"
                for key in ("within_1", "within_2")
            ]
            cells = [
                spread([one["test"]["mae"] for one in runs]),
                spread([float(np.mean(one["test"]["members"])) for one in runs]),
                ", ".join("-" if c is None else f"{c.spearman or 0:.2f}" for c in alone),
                ", ".join("-" if c is None else f"{c.spearman or 0:.2f}" for c in both),
                spread([each.scale for each in known], 1.0, 2),
                ", ".join(within),
            ]
            lines.append(f"| {name} | {n} | {' | '.join(cells)} |")
    return lines


def side_by_side(found: Results, foundation: dict[str, Any]) -> list[str]:
    """Errors on the system and on what the foundation model knew, and time."""
    lines = [
        "| way | labels | force MAE on the system, meV/A | on hot structures "
        "| on what the foundation model knew | CPU s |",
        "|---|---|---|---|---|---|",
    ]
    cells = [f"{1000 * foundation[key]['mae']:.0f}" for key in SETS]
    lines.append(f"| {FOUNDATION} as it is | 0 | {' | '.join(cells)} | |")
    for name, by_labels in found.items():
        for n, by_seed in by_labels.items():
            runs = list(by_seed.values())
            cells = [spread([one[key]["mae"] for one in runs]) for key in SETS]
            cells.append(spread([one["cpu"] for one in runs], 1.0))
            lines.append(f"| {name} | {n} | {' | '.join(cells)} |")
    return lines


TABLES = {
    "labels": learning_curves,
    "initial": learning_curves,
    "members": spread_and_error,
    "ways": side_by_side,
}


def main() -> None:
    """Compute what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--folder", type=Path, default=Path("fine_tuning"))
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--labels", type=int, nargs="+", help="numbers of labels")
    parser.add_argument("--only", nargs="+", help="of what is compared, only these")
    parser.add_argument("--quick", action="store_true", help="as little as possible: that it runs")
    parser.add_argument("--report", action="store_true", help="of what is there; compute nothing")
    given = parser.parse_args()
    ways, numbers = COMMANDS[given.command]
    if unknown := set(given.only or ()) - set(ways):
        parser.error(f"--only {sorted(unknown)}: expected some of {', '.join(ways)}")
    ways = {name: way for name, way in ways.items() if name in (given.only or ways)}
    size = QUICK if given.quick else Size()
    lines: list[str] = []
    for system in given.systems:
        found = results(
            given.folder,
            system,
            ways,
            given.labels or numbers,
            given.seeds,
            None if given.report else size,
        )
        sets = test_sets(given.folder, SYSTEMS[system], size.test)
        lines += [f"### {system}", ""]
        foundation = judged([small_foundation().model], sets)
        foundation["learnt_method"] = learnt_method(sets["test"])
        lines += [*TABLES[given.command](found, foundation), ""]
    (given.folder / f"fine_tuning_{given.command}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
