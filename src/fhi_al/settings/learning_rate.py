"""Notes on when the learning rate changes.  Compares keys of both settings files."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from fhi_al.settings.active_learning import ActiveLearning
from fhi_al.settings.mace import Training


def epochs_until_it_falls(scheduler_patience: int, valid_skip: int) -> int:
    """Epochs without improvement until ReduceLROnPlateau lowers the rate.

    The epoch after `scheduler_patience`, seen by the next validation.
    """
    return _validated(scheduler_patience + 1, valid_skip)


def notes_on_the_learning_rate(al: ActiveLearning, training: Training) -> Iterator[str]:
    """One sentence for each phase that ends before its learning rate can fall."""
    if training.scheduler != "ReduceLROnPlateau":
        return
    wait = epochs_until_it_falls(training.scheduler_patience, al.valid_skip)
    needs = (
        f"TRAINING.scheduler_patience = {training.scheduler_patience}: with valid_skip ="
        f" {al.valid_skip} the learning rate falls after {wait} epochs without improvement"
    )
    # The scheduler's first validation is an improvement in any case.
    at_least = wait + al.valid_skip
    if al.converge_al or al.converge_initial:
        if _validated(al.patience, al.valid_skip) <= wait:
            yield (
                f"{needs}, but a convergence may end before it can (ACTIVE_LEARNING.patience ="
                f" {al.patience}), all of it trained at lr. Lower scheduler_patience, or raise"
                f" patience above {wait}."
            )
        key, longest = _longest_with_scheduler(al, training)
        if longest <= at_least:
            yield (
                f"{needs}, but a convergence may end before it can"
                f" ({key} = {longest}). Lower scheduler_patience or valid_skip, or raise"
                f" {key.partition('.')[2]} above {at_least}."
            )
    if al.scheduler_initial and al.max_initial_epochs <= at_least:
        yield (
            f"{needs}, but the initial dataset ends before it can"
            f" (ACTIVE_LEARNING.max_initial_epochs = {al.max_initial_epochs}). Lower"
            f" scheduler_patience, or raise max_initial_epochs above {at_least}."
        )


def _longest_with_scheduler(al: ActiveLearning, training: Training) -> tuple[str, int]:
    """Most epochs of a convergence with the scheduler at work, and the key that says so."""
    start = training.second_stage_start(al.max_final_epochs)
    if start is None or start >= al.max_final_epochs:
        return "ACTIVE_LEARNING.max_final_epochs", al.max_final_epochs
    return "TRAINING.start_swa", start


def notes_on_the_second_stage(al: ActiveLearning, training: Training) -> Iterator[str]:
    """One sentence if the second stage of a convergence never begins, or may not."""
    if not training.swa:
        return
    if not (al.converge_al or al.converge_initial):
        yield "TRAINING.swa = true: has no effect without converge_initial and converge_al."
        return
    start = training.second_stage_start(al.max_final_epochs)
    assert start is not None
    if start >= al.max_final_epochs:
        yield (
            f"TRAINING.start_swa = {start}: the second stage begins only where the first stops"
            f" improving before ACTIVE_LEARNING.max_final_epochs = {al.max_final_epochs}. Lower"
            " start_swa, or raise max_final_epochs."
        )


def _validated(epochs: int, valid_skip: int) -> int:
    """The first validation after so many epochs."""
    return valid_skip * ceil(epochs / valid_skip)
