"""A run says so if its learning rate cannot fall, and only then."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from fhi_al.core.improvement import BestError, with_error
from fhi_al.core.stopping import convergence_stop
from fhi_al.settings import ActiveLearning, Training, read_settings
from fhi_al.settings.learning_rate import (
    notes_on_the_learning_rate,
    notes_on_the_second_stage,
)

EXAMPLES = Path(__file__).parents[2] / "examples"


class Plateau:
    """Falls of the rate by ReduceLROnPlateau's rule (the epoch after `patience` bad ones)."""

    def __init__(self, patience: int) -> None:
        self._patience, self._best, self._bad, self.falls = patience, float("inf"), 0, 0

    def validated(self, error: float, epochs: int) -> None:
        for _ in range(epochs):
            if error < self._best:
                self._best, self._bad = error, 0
                return
            self._bad += 1
            if self._bad > self._patience:
                self._bad, self.falls = 0, self.falls + 1
                return


def falls_of_use(al: ActiveLearning, training: Training, error: Callable[[int], float]) -> int:
    """Falls after which at least an epoch is trained, in a convergence with these errors."""
    plateau, history = Plateau(training.scheduler_patience), BestError(best=error(0))
    falls = 0
    while convergence_stop(history, al.patience, al.max_final_epochs) is None:
        falls = plateau.falls
        epochs = min(al.valid_skip, al.max_final_epochs - history.epoch)
        epoch = history.epoch + epochs
        plateau.validated(error(epoch), epochs)
        history = with_error(history, error(epoch), epoch, 0.0)
    return falls


GRID = list(itertools.product((1, 2, 5, 10), (0, 1, 4, 5, 10), (1, 4, 5, 12, 20), (3, 10, 40)))


@pytest.mark.parametrize(("valid_skip", "scheduler_patience", "patience", "longest"), GRID)
def test_the_notes_agree_with_what_a_convergence_does(
    valid_skip: int, scheduler_patience: int, patience: int, longest: int
) -> None:
    al = ActiveLearning(valid_skip=valid_skip, patience=patience, max_final_epochs=longest)
    training = Training(scheduler_patience=scheduler_patience)
    notes = list(notes_on_the_learning_rate(al, training))

    # An error that falls for a while and then stands: by patience alone, can the rate fall?
    unlimited = al.model_copy(update={"max_final_epochs": 10_000})
    by_patience = falls_of_use(unlimited, training, lambda epoch: 1.0 / min(epoch + 1, 100))
    assert any("ACTIVE_LEARNING.patience =" in note for note in notes) == (by_patience == 0)

    # One that improves at first and then stands, with the limit of epochs alone:
    patient = al.model_copy(update={"patience": 10_000})
    by_limit = falls_of_use(patient, training, lambda epoch: 1.0 / min(epoch + 1, valid_skip + 1))
    assert any("max_final_epochs =" in note for note in notes) == (by_limit == 0)


def test_the_defaults_let_the_rate_fall_several_times_after_the_last_improvement() -> None:
    al, training = ActiveLearning(), Training()
    assert not list(notes_on_the_learning_rate(al, training))
    assert falls_of_use(al, training, lambda epoch: 1.0 / min(epoch + 1, 20)) >= 4


@pytest.mark.parametrize("folder", sorted(EXAMPLES.glob("*/")), ids=lambda path: path.name)
def test_the_examples_let_the_rate_fall(folder: Path) -> None:
    if not (folder / "mace_settings.yaml").exists():
        pytest.skip("a folder without settings")
    settings = read_settings(folder)
    assert settings.mace is not None
    assert not [note for note in settings.notes if "learning rate" in note]
    stands = falls_of_use(settings.al, settings.mace.training, lambda epoch: 1.0)
    assert stands >= 2


def test_no_note_about_what_is_not_used() -> None:
    never = {"patience": 1, "max_final_epochs": 1, "max_initial_epochs": 1}
    off = {"converge_al": False, "converge_initial": False, "scheduler_initial": False}
    assert len(list(notes_on_the_learning_rate(ActiveLearning(**never), Training()))) == 3
    assert not list(notes_on_the_learning_rate(ActiveLearning(**never, **off), Training()))
    exponential = Training(scheduler="ExponentialLR")
    assert not list(notes_on_the_learning_rate(ActiveLearning(**never), exponential))


def test_the_first_stage_must_leave_room_for_the_rate_to_fall() -> None:
    al = ActiveLearning(max_final_epochs=100)
    (note,) = notes_on_the_learning_rate(al, Training(swa=True, start_swa=6))
    assert "a convergence may end before it can (TRAINING.start_swa = 6)" in note
    assert "raise start_swa above 7" in note
    assert not list(notes_on_the_learning_rate(al, Training(swa=True)))


def test_a_second_stage_that_does_not_begin_is_told() -> None:
    al, late = ActiveLearning(max_final_epochs=100), Training(swa=True, start_swa=100)
    (note,) = notes_on_the_second_stage(al, late)
    assert "TRAINING.start_swa = 100" in note and "max_final_epochs = 100" in note
    off = al.model_copy(update={"converge_al": False, "converge_initial": False})
    (note,) = notes_on_the_second_stage(off, Training(swa=True))
    assert "TRAINING.swa = true: has no effect without" in note
    assert Training(swa=True).second_stage_start(102) == 75  # as MACE: 102 // 4 * 3
    assert Training(start_swa=10).second_stage_start(102) is None
    for training in (Training(swa=True), Training(start_swa=100)):
        assert not list(notes_on_the_second_stage(al, training))


def test_the_note_comes_with_the_settings_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "mace_settings.yaml").write_text("TRAINING:\n  scheduler_patience: 50\n")
    (tmp_path / "active_learning_settings.yaml").write_text(
        "ACTIVE_LEARNING:\n  reference_engine: tblite\n  desired_acc: 0.1\n"
    )
    (note,) = [n for n in read_settings(tmp_path).notes if "learning rate" in n]
    assert note == (
        "TRAINING.scheduler_patience = 50: with valid_skip = 1 the learning rate falls after 51"
        " epochs without improvement, but a convergence may end before it can"
        " (ACTIVE_LEARNING.patience = 50), all of it trained at lr. Lower scheduler_patience,"
        " or raise patience above 51."
    )
