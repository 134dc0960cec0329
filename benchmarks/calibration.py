"""Does the ensemble's uncertainty tell the true force error?

    python benchmarks/calibration.py [--folder DIR] [--quick]

Takes the runs and the test sets of benchmarks/label_efficiency.py (run it first): the members of
each run as it left them, and MD of the reference method that they have not seen.  Uncertainty and
true error of a structure are those that the program compares in its sanity checks.  What the
program would learn from a quarter of the structures (the scale) is used on all others: the coverage
is the share of them whose error is at most 1 and 2 times scale x uncertainty.  Writes
calibration.md and calibration.png into the folder.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from label_efficiency import DEFAULT, OTHER, OURS, QUICK, Size, results_folder, test_set
from report import axes, save
from selection_statistics import Array, bins_of_equal_size
from selection_systems import SYSTEMS, System

from fhi_al.core.calibration import calibration
from fhi_al.core.label import Label
from fhi_al.core.uncertainty import MEASURES, force_error
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.torch_set_up import torch_set_up
from fhi_al.settings.mace import MaceSettings

N_BINS = 4


@dataclass(frozen=True, eq=False)
class Compared:
    """Structures that one ensemble has not seen.

    Parameters
    ----------
    uncertainty, error : (n_structures,)
        In eV/A.
    """

    uncertainty: Array
    error: Array

    def pairs(self) -> list[tuple[float, float]]:
        """As the program keeps them."""
        return list(zip(self.uncertainty.tolist(), self.error.tolist(), strict=True))


def members_of(run: Path, system: System) -> Ensemble:
    """The ensemble that a run ended with."""
    content = yaml.safe_load((run / "mace_settings.yaml").read_text())
    settings = MaceSettings.model_validate(
        {name.lower(): values for name, values in content.items()}
    )
    files = sorted((run / "model").glob("*.model"))
    elements = sorted(set(system.structure.numbers.tolist()))
    made = Ensemble(settings, elements, range(len(files)))
    for place, file in enumerate(files):
        made.load_exported(file, place)
    return made


def compared(ensemble: Ensemble, labels: list[Label], seed: int) -> Compared:
    """Uncertainties and true errors, in an order that has nothing to do with either."""
    order = np.random.default_rng(seed).permutation(len(labels))
    mixed = [labels[place] for place in order]
    found = ensemble.predict(mixed)
    measure = MEASURES["max_atomic_sd"]
    return Compared(
        np.array([measure(each.forces) for each in found]),
        np.array(
            [
                force_error(each.forces.mean(axis=0), label.forces, measure)
                for each, label in zip(found, mixed, strict=True)
            ]
        ),
    )


# By system and forces of the runs' MD, then by seed.
Found = dict[str, dict[int, Compared]]


def table(found: Found) -> list[str]:
    """Correlation, scale and coverage of each run; bins of all runs of a kind."""
    lines = [
        "| run | median error (eV/A) | Pearson | Spearman | scale [95 %] "
        "| within 1 scale, fitted / others | within 2 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, runs in found.items():
        for seed, run in runs.items():
            n_fitted = max(2, len(run.error) // 4)
            fitted = calibration(run.pairs()[:n_fitted])
            whole = calibration(run.pairs())
            if fitted is None or whole is None:
                raise ValueError(f"{name}, seed {seed}: no uncertainties to compare")
            ratio = run.error[n_fitted:] / run.uncertainty[n_fitted:]
            within = [
                f"{100 * share:.0f} % / {100 * np.mean(ratio <= factor * fitted.scale):.0f} %"
                for factor, share in ((1, fitted.within_1), (2, fitted.within_2))
            ]
            lines.append(
                f"| {name}, seed {seed} | {np.median(run.error):.2f} | {whole.pearson:.2f} "
                f"| {whole.spearman:.2f} | {fitted.scale:.2f} [{fitted.low:.2f}, {fitted.high:.2f}]"
                f" | {within[0]} | {within[1]} |"
            )
    lines += ["", "| runs | " + " | ".join(f"bin {k + 1}" for k in range(N_BINS)) + " |"]
    lines += ["|---|" + "---|" * N_BINS]
    for name, runs in found.items():
        bins = bins_of_equal_size(
            np.concatenate([run.uncertainty for run in runs.values()]),
            np.concatenate([run.error for run in runs.values()]),
            N_BINS,
        )
        cells = [f"{each.uncertainty:.2f} / {each.error:.2f}" for each in bins]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, "", "Bins: mean uncertainty / mean true error of the structures, eV/A."]


def figure(path: Path, found: Found) -> None:
    """Error against uncertainty of every structure."""
    made, (axis,) = axes(height=4)
    for name, runs in found.items():
        uncertainty = np.concatenate([run.uncertainty for run in runs.values()])
        error = np.concatenate([run.error for run in runs.values()])
        axis.plot(uncertainty, error, ".", markersize=3, alpha=0.6, label=name)
    ends = np.array(axis.get_xlim())
    axis.plot(ends, ends, "k--", linewidth=0.8, label="equal")
    axis.set(xscale="log", yscale="log")
    axis.set(xlabel="uncertainty (eV/Å)", ylabel="true error (eV/Å)")
    axis.legend()
    save(made, path)


def read(folder: Path, size: Size) -> Found:
    """All runs that are finished."""
    found: Found = {}
    for name, system in SYSTEMS.items():
        for method in (OURS, OTHER):
            for seed in size.seeds:
                run = folder / f"{name}_{seed}" / f"run_{method.split()[-1]}"
                if (run / "seconds.json").exists():
                    one = compared(members_of(run, system), test_set(folder, system, size), seed)
                    found.setdefault(f"{name}, {method.split()[-1]}", {})[seed] = one
    return found


def main() -> None:
    """Read, write the table and the figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--folder", type=Path, default=Path("label_efficiency"))
    parser.add_argument("--quick", action="store_true", help="of a quick run")
    given = parser.parse_args()
    size = QUICK if given.quick else DEFAULT
    with torch_set_up(1):
        found = read(results_folder(given.folder, size), size)
    if not found:
        sys.exit(
            f"{given.folder}: no runs. Run benchmarks/label_efficiency.py with this folder first"
        )
    text = "\n".join(table(found)) + "\n"
    (given.folder / "calibration.md").write_text(text)
    figure(given.folder / "calibration.png", found)
    print(text)


if __name__ == "__main__":
    main()
