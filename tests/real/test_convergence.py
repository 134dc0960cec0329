"""A convergence in one and two stages, with trainable pair potentials and real labels."""

from __future__ import annotations

import logging
import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from models_parts import water_labels
from pair_potential import PairPotential

from fhi_al.active_learning.convergence import Convergence
from fhi_al.active_learning.options import ConvergenceOptions
from fhi_al.active_learning.progress import Progress
from fhi_al.active_learning.training_rounds import TrainingOptions, TrainingRounds
from fhi_al.active_learning.unseen import unseen_labels
from fhi_al.core.convergence import ConvergenceStage, StageErrors
from fhi_al.core.label import Label
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.loss import Loss, LossWeights
from fhi_al.models.training import SerialTrainingPool
from fhi_al.report.clock import Clock
from fhi_al.report.journal import Journal
from fhi_al.settings.mace import MaceSettings
from fhi_al.settings.model_backends import declaration

pytestmark = pytest.mark.real

OPTIONS = ConvergenceOptions(patience=40, max_epochs=60, margin=0.0, epochs_per_round=5)
BEFORE, FIRST, SECOND = ConvergenceStage


@pytest.fixture(scope="module")
def labels() -> list[Label]:
    return water_labels(16)


class DivergesInTheSecondStage(PairPotential):
    """A pair potential whose loss is infinite with the energies' weight of a second stage."""

    def loss(self, weights: LossWeights) -> Loss:
        is_second = weights.energy == self.settings.training.swa_energy_weight
        return super().loss(replace(weights, energy=math.inf) if is_second else weights)


def ensemble(labels: list[Label], backend: Any = PairPotential, **training: Any) -> Ensemble:
    """Two pair potentials, each with six training and two validation labels of its own."""
    made = declaration(backend)
    settings = MaceSettings.model_validate(
        {
            "architecture": made.architecture.model_validate({"r_max": 4.0, "num_functions": 8}),
            "training": {"batch_size": 3, "lr": 0.02, "ema": True, **training},
            "backend": made.name,
            "backend_class": made.backend,
        }
    )
    found = Ensemble(settings, (1, 8), (11, 22))
    for member in found.members:
        mine = labels[8 * member.index :][:8]
        member.add_training(mine[:6])
        member.add_validation(mine[6:])
        member.fit_normalisation()
        member.freeze_normalisation()
    return found


def convergence(
    made: Ensemble, folder: Path, options: ConvergenceOptions = OPTIONS, max_failures: int = 3
) -> Convergence:
    progress, journal = Progress(), Journal(folder / "journal.jsonl")
    rounds = TrainingRounds(
        made,
        SerialTrainingPool(made, options.epochs_per_round),
        progress,
        journal,
        Clock(),
        TrainingOptions(max_failures, "PerAtomRMSE", 3, ("0", "1")),
    )
    return Convergence(progress, rounds, nullcontext, options)


def entries(made: Convergence, kind: str, **values: Any) -> list[dict[str, Any]]:
    found = made.training._journal.entries()
    return [e for e in found if e["kind"] == kind and values.items() <= e.items()]


def test_the_best_weights_are_those_of_all_points_a_member_has_not_trained_on(
    labels: list[Label], tmp_path: Path
) -> None:
    made = ensemble(labels)
    one = convergence(made, tmp_path)
    one.run("final convergence", [0, 1])
    state = one.progress.state.convergence
    assert state is not None and state.stage is FIRST
    for member in made.members:
        compared = entries(one, "unseen", member=member.index)
        assert [e["epoch"] for e in compared] == list(range(0, state.course.epoch + 1, 5))
        # Its own two validation points and the other's eight points.
        assert {e["n_points"] for e in compared} == {10}
        best = min(e["mae_forces"] * e["mae_energy_per_atom"] for e in compared)
        now = member.errors_on(unseen_labels(member, made.members, ()))
        assert now.mae_forces * now.mae_energy_per_atom == best


def test_it_goes_on_while_energies_fall_on_validation_points_that_say_nothing(
    labels: list[Label], tmp_path: Path
) -> None:
    """The validation forces are those of the first weights: training can only make them worse."""
    made = ensemble(labels)
    for member in made.members:
        forces = [made.predict([each], [member.index])[0].forces[0] for each in member.validation]
        member.validation[:] = [
            replace(each, key=f"{each.key} {member.index}", forces=force)
            for each, force in zip(member.validation, forces, strict=True)
        ]
    options = replace(OPTIONS, patience=10, max_epochs=40)
    one = convergence(made, tmp_path, options)
    one.run("final convergence", [0, 1])
    state = one.progress.state.convergence
    assert state is not None
    assert state.course.forces.best_epoch == 0
    assert state.course.epoch > 10
    assert any(e.mae_forces > 0 for e in state.stages[0].errors)


def test_the_second_stage_begins_from_the_best_weights_of_the_first(
    labels: list[Label], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = ensemble(labels, swa=True, swa_lr=0.002, swa_energy_weight=1000.0)
    one = convergence(made, tmp_path, replace(OPTIONS, second_stage_start=20))
    with caplog.at_level(logging.INFO):
        one.run("final convergence", [0, 1])
    state = one.progress.state.convergence
    assert state is not None and [s.stage for s in state.stages] == [FIRST, SECOND]
    rates = {e["epoch"]: e["learning_rate"] for e in entries(one, "epoch", member=0)}
    assert max(rates) == 60
    assert {rate for epoch, rate in rates.items() if epoch > 20} == {0.002}
    assert rates[20] > 0.002
    assert set(one.progress.best_weights) == {(s, m) for s in (FIRST, SECOND) for m in (0, 1)}
    for member, first, second in zip(made.members, *(s.errors for s in state.stages), strict=True):
        now = member.errors_on(unseen_labels(member, made.members, ()))
        product = now.mae_forces * now.mae_energy_per_atom
        products = [each.mae_forces * each.mae_energy_per_atom for each in (first, second)]
        assert product == min(products)
    assert "second stage after 20 epochs: 20 epochs are trained (start_swa = 20)" in caplog.text
    assert "first stage forces" in caplog.text and "second stage forces" in caplog.text


def test_the_second_stage_begins_early_where_the_first_does_not_improve(
    labels: list[Label], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = ensemble(labels, swa=True, lr=1e-12, fit_atomic_energies=False)
    options = replace(OPTIONS, patience=10, margin=1e-6, second_stage_start=50)
    one = convergence(made, tmp_path, options)
    with caplog.at_level(logging.INFO):
        one.run("final convergence", [0, 1])
    # The first loss, at epoch 5, is all that was new.
    assert "second stage after 15 epochs: no improvement for 10 epochs" in caplog.text


def test_a_second_stage_that_diverges_falls_back_to_the_first(
    labels: list[Label], tmp_path: Path
) -> None:
    """Even where one divergence more ends a run: max_training_failures of 1."""
    made = ensemble(labels, DivergesInTheSecondStage, swa=True)
    options = replace(OPTIONS, second_stage_start=10)
    one = convergence(made, tmp_path, options, max_failures=1)
    one.run("final convergence", [0, 1])
    state = one.progress.state.convergence
    assert state is not None
    assert state.diverged == (0, 1) and state.course.epoch == 15
    assert all(e.n_points == 0 for e in state.stages[1].errors)
    for member in made.members:
        best = one.progress.best_weights[FIRST, member.index]["model"]
        now = member.weights()["model"]
        assert all(torch.equal(now[name], best[name]) for name in best)
        assert math.isfinite(member.validate().mae_forces)


def test_a_convergence_anew_begins_with_the_weights_of_the_seed_and_all_labels(
    labels: list[Label], tmp_path: Path
) -> None:
    made, more = ensemble(labels[:8] * 2), labels[8:12]
    convergence(made, tmp_path / "a", replace(OPTIONS, max_epochs=10)).run("initial", [0, 1])
    for member in made.members:
        member.add_training(more)
    before = [member.errors_on(labels[12:]) for member in made.members]
    one = convergence(made, tmp_path / "b")
    one._begin("final convergence", [0, 1], True)
    scratch = ensemble(labels[:8] * 2)
    for member, new in zip(made.members, scratch.members, strict=True):
        new.add_training(more)
        new.frozen = False
        new.fit_normalisation()
        now, wanted = member.weights(), new.weights()
        assert now["statistics"] == wanted["statistics"]
        assert all(torch.equal(now["model"][name], w) for name, w in wanted["model"].items())
        assert member.frozen and member.has_scheduler
    one.run("final convergence", [])
    state = one.progress.state.convergence
    assert state is not None and [s.stage for s in state.stages] == [BEFORE, FIRST]
    for member, error in zip(made.members, before, strict=True):
        assert member.errors_on(labels[12:]) != error


def test_a_convergence_anew_that_is_worse_ends_with_the_weights_before(
    labels: list[Label], tmp_path: Path
) -> None:
    made = ensemble(labels)
    convergence(made, tmp_path / "a").run("initial convergence", [0, 1])
    forces = made.predict([labels[0]])[0].forces
    one = convergence(made, tmp_path / "b", replace(OPTIONS, max_epochs=1))
    one.run("final convergence", [0, 1], anew=True)
    assert (made.predict([labels[0]])[0].forces == forces).all()


def test_best_weights_that_an_older_program_chose_are_measured_first(
    labels: list[Label], tmp_path: Path
) -> None:
    made = ensemble(labels)
    one = convergence(made, tmp_path, replace(OPTIONS, max_epochs=10))
    one._begin("final convergence", [0, 1], False)
    state = one.progress.state.convergence
    assert state is not None
    known = state.stages[0].errors
    one._train("final convergence")
    before = [member.weights()["model"] for member in made.members]
    later = one.progress.state.convergence
    assert later is not None
    unknown = (StageErrors(FIRST),)
    one.progress.update(convergence=replace(later, stages=unknown))
    for member in ensemble(labels).members:  # as if no later weights had been better
        one.progress.best_weights[FIRST, member.index] = member.weights()
    one._measure_best("final convergence")
    measured = one.progress.state.convergence
    assert measured is not None and measured.stages[0].errors == known
    for member, weights in zip(made.members, before, strict=True):
        now = member.weights()["model"]
        assert all(torch.equal(now[name], weights[name]) for name in weights)
    one.run("final convergence", [])
    assert one.progress.state.convergence.course.epoch == 10


def test_points_of_the_test_set_and_those_trained_on_judge_nobody(labels: list[Label]) -> None:
    made = ensemble(labels)
    one, other = made.members
    found = unseen_labels(one, made.members, [other.training[0].key, one.validation[1].key])
    assert [each.key for each in found] == [
        each.key for each in (one.validation[0], *other.training[1:], *other.validation)
    ]
    one.add_training(other.training[2:4])
    assert not {each.key for each in one.training} & {
        each.key for each in unseen_labels(one, made.members, ())
    }
    few = unseen_labels(one, made.members, (), at_most=4)
    assert few[:2] == one.validation and few[-1] is other.validation[-1] and len(few) == 4
