"""Rules between the keys that end active learning."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from fhi_al.core.final_test import n_test_labels
from fhi_al.settings.active_learning import ActiveLearning, ActiveLearningSettings
from fhi_al.settings.clash import Clash


def stop_problems(settings: ActiveLearningSettings) -> Iterator[Clash]:
    """Whether active learning ends, and has something to do before."""
    al = settings.active_learning
    limits = (al.max_set_size, al.max_MD_steps, al.label_budget)
    if al.desired_acc == 0 and limits == (None, None, None):
        yield Clash(
            (
                "ACTIVE_LEARNING.desired_acc",
                "ACTIVE_LEARNING.max_set_size",
                "ACTIVE_LEARNING.max_MD_steps",
            ),
            "nothing would ever stop active learning. Give at least one of desired_acc (above 0,"
            " in eV/A), max_set_size, max_MD_steps and label_budget",
        )
    if al.label_budget is not None:
        yield from _budget(al, al.label_budget, len(settings.systems))


def _budget(al: ActiveLearning, budget: int, n_systems: int) -> Iterator[Clash]:
    """A budget of which nothing would be left for active learning."""
    keys, taken, calls = ["ACTIVE_LEARNING.label_budget"], [], 0
    # With data of the user's there may be no such round.
    if "none" not in al.sources and al.initial_data is None:
        calls = ceil(al.n_samples * al.ensemble_size * al.calls_per_point)
        keys.append("ACTIVE_LEARNING.n_samples")
        taken.append(
            f"the first round of the initial dataset takes {calls} calculations (n_samples x"
            " ensemble_size, with aimd x skip_step_initial)"
        )
    n_test = n_test_labels(al.final_test, budget, n_systems)
    if n_test > 0:
        keys.append("ACTIVE_LEARNING.final_test")
        taken.append(f"the final test takes {n_test}")
    if budget <= calls + n_test:
        yield Clash(
            tuple(keys),
            f"{', '.join(taken)}, and active learning needs some, too. Expected"
            f" {calls + n_test + 1} or more",
        )
