"""Notes on what of the stress is computed in vain, or not computed.  Compares both files."""

from __future__ import annotations

from collections.abc import Iterator

from fhi_al.settings.active_learning import ActiveLearning
from fhi_al.settings.mace import MaceSettings


def notes_on_the_stress(al: ActiveLearning, mace: MaceSettings) -> Iterator[str]:
    """One sentence for each key that does less than it seems to."""
    if mace.general.compute_stress:
        if not mace.training.has_stress_loss:
            yield (
                f"GENERAL.compute_stress = true: TRAINING.loss = {mace.training.loss} does not"
                " train on the stress, whose errors are only reported. To train on it use loss:"
                " stress, virials, universal or huber."
            )
    elif al.max_stress != type(al).model_fields["max_stress"].default:
        yield (
            f"ACTIVE_LEARNING.max_stress = {al.max_stress:g}: has no effect without"
            " GENERAL.compute_stress."
        )
