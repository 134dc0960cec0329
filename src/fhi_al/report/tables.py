"""Tables of ``results/`` and ``analysis/``: CSV files made from the journal, row by row.

Owns those files.  They are rebuilt from the journal when a run starts, so that a resumed run's
tables are those of an unbroken one.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, TextIO

from fhi_al.report.journal import Entry

# kind of entry -> (file, columns); the file name may hold fields of the entry.
_RESULTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "epoch": (
        "{member_name}_errors.csv",
        (
            "phase",
            "epoch",
            "n_training",
            "n_validation",
            "learning_rate",
            "training_loss",
            "validation_loss",
            "mae_forces",
            "rmse_forces",
            "mae_energy_per_atom",
            "rmse_energy_per_atom",
            "mae_stress",
            "rmse_stress",
        ),
    ),
    "ensemble": (
        "ensemble_errors.csv",
        (
            "phase",
            "epoch",
            "n_training",
            "n_validation",
            "training_loss",
            "mae_forces",
            "mae_stress",
        ),
    ),
    "test": (
        "test_errors.csv",
        (
            "phase",
            "points",
            "model",
            "system",
            "n_points",
            "mae_forces",
            "rmse_forces",
            "worst_forces",
            "mae_energy_per_atom",
            "rmse_energy_per_atom",
            "mae_stress",
            "rmse_stress",
        ),
    ),
    "initial points": ("initial_points.csv", ("round", "source", "n_points")),
    "final test": (
        "final_test.csv",
        (
            "trajectory",
            "md_step",
            "uncertainty",
            "mean_uncertainty",
            "mae_forces",
            "mae_energy_per_atom",
            "mae_stress",
            "md",
            "system",
        ),
    ),
}
_ANALYSIS: dict[str, tuple[str, tuple[str, ...]]] = {
    "check": (
        "uncertainty_history.csv",
        (
            "sweep",
            "trajectory",
            "md_step",
            "uncertainty",
            "threshold",
            "crosses",
            "stress_uncertainty",
            "stress_threshold",
            "temperature",
            "energy",
            "volume",
            "md",
            "system",
        ),
    ),
    "crossing": (
        "md_steps_between_crossings.csv",
        ("trajectory", "md_step", "steps_since_last", "md", "system"),
    ),
    "sanity": (
        "sanity_checks.csv",
        (
            "sweep",
            "trajectory",
            "md_step",
            "uncertainty",
            "threshold",
            "mae_forces",
            "max_force_error",
            "joined",
            "mae_stress",
            "md",
            "system",
        ),
    ),
    "calibration": (
        "calibration.csv",
        (
            "system",
            "sweep",
            "trajectory",
            "md_step",
            "uncertainty",
            "true_error",
            "counts",
            "in_use",
            "n_pairs",
            "scale",
            "low",
            "high",
            "within_1",
            "within_2",
            "pearson",
            "spearman",
        ),
    ),
    "ensemble": ("losses.csv", ("phase", "epoch", "training_loss", "mae_forces")),
}


class Tables:
    """Writes a row of the right table for each journal entry it hears of.

    Parameters
    ----------
    results : Path
        ``results/``.
    analysis : Path or None
        ``analysis/``; None without ``analysis``.
    """

    def __init__(self, results: Path, analysis: Path | None) -> None:
        self._routes = [(results, _RESULTS)]
        if analysis is not None:
            self._routes.append((analysis, _ANALYSIS))
        self._streams: dict[Path, TextIO] = {}
        for folder, tables in self._routes:
            for name, _ in tables.values():
                # What an abandoned launch wrote is not in the journal.  Tables with a member in
                # their name may be another run's, if both write to one folder: left alone.
                if "{" not in name:
                    (folder / name).unlink(missing_ok=True)

    def add(self, entry: Entry) -> None:
        """Write the entry's rows, if it has any."""
        for folder, tables in self._routes:
            if entry["kind"] in tables:
                name, columns = tables[entry["kind"]]
                self._write(folder / name.format(**entry), columns, entry)

    def _write(self, path: Path, columns: tuple[str, ...], entry: dict[str, Any]) -> None:
        new = path not in self._streams
        if new:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._streams[path] = path.open("w", newline="")
        stream = self._streams[path]
        writer = csv.writer(stream)
        if new:
            writer.writerow(columns)
        writer.writerow(["" if entry.get(key) is None else entry[key] for key in columns])
        stream.flush()

    def close(self) -> None:
        """Close the files."""
        for stream in self._streams.values():
            stream.close()
