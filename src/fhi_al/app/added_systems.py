"""What keeps systems from being added to a finished run.  Runs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from pathlib import Path

from fhi_al.core.final_test import n_test_labels
from fhi_al.labels.label_file import LabelFile
from fhi_al.settings import Settings


def budget_problems(settings: Settings, restart: Path) -> Iterator[str]:
    """A ``label_budget`` that does not reach for the new systems' first points.

    Parameters
    ----------
    settings : Settings
    restart : Path
        Of the finished run, with its labels.
    """
    al = settings.al
    if al.label_budget is None:
        return
    records = LabelFile(restart / "labels.jsonl", None, "").records.values()
    n_computed = sum(record.origin.phase != "imported" for record in records)
    n_first = ceil(al.n_samples * al.ensemble_size * al.calls_per_point)
    n_test = n_test_labels(al.final_test, al.label_budget, len(settings.systems))
    needed = n_computed + n_first + n_test + 1
    if al.label_budget < needed:
        message = (
            f"{n_computed} labels are computed; the first round for the system that is added takes"
            f" {n_first}, the final test {n_test}, and active learning needs some, too: expected"
            f" {needed} or more. Raise it: it may change in a run"
        )
        yield str(settings.problem("active_learning", "ACTIVE_LEARNING.label_budget", message))
