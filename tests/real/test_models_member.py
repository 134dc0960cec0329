"""One member on real MACE and real labels: it learns, it keeps its statistics, it can be undone."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from mace.tools.scripts_utils import extract_model
from models_parts import (
    ELEMENTS,
    ensemble,
    fitted,
    label,
    settings,
    water_labels,
)

from fhi_al.core.label import Label, Origin
from fhi_al.models.default_dtype import default_dtype
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.mace.exports import normalisation_of
from fhi_al.models.mace.runtime_model import to_mace_model
from fhi_al.models.state_bytes import packed, unpacked
from fhi_al.models.torch_model import TorchModel
from fhi_al.models.training import SerialTrainingPool, whole_epoch

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def labels() -> list[Label]:
    return water_labels(14)


@pytest.fixture(scope="module")
def trained(labels: list[Label]) -> Ensemble:
    """Two members after 15 epochs."""
    made = fitted(labels)
    SerialTrainingPool(made, 5).begin(range(2), 15).finish()
    return made


def numbers(member: object) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in member.model.module.parameters()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_training_on_the_labels_beats_predicting_zero_forces(
    labels: list[Label], trained: Ensemble
) -> None:
    zero_model = np.mean([np.abs(label.forces) for label in labels[-4:]])
    for member in trained.members:
        assert member.validate().mae_forces < 0.4 * zero_model


def test_constants_are_those_of_the_systems_whatever_dimers_say(labels: list[Label]) -> None:
    pair = Atoms("H2", [[0, 0, 0], [0.5, 0, 0]])
    origin = Origin("initial", 0, 1, source="dimer")
    dimer = label(pair, 500.0, [[90.0, 0, 0], [-90.0, 0, 0]], system=1, origin=origin)
    (plain,), (taught,) = (ensemble(labels, (1,)).members for _ in range(2))
    taught.add_training([dimer])
    assert plain.fit_normalisation() == taught.fit_normalisation()
    # Nor does the constant part of the energies' errors depend on them.
    plain.fit_atomic_energies()
    taught.fit_atomic_energies()
    assert plain.normalisation == taught.normalisation


def test_reported_errors_are_those_of_the_predictions(
    labels: list[Label], trained: Ensemble
) -> None:
    found = trained.members[1].validate()
    wanted = labels[-4:]
    predicted = [trained.energies_and_forces(label, [1]) for label in wanted]
    errors = np.array([predicted[i][1][0] - wanted[i].forces for i in range(4)])
    energies = np.array([predicted[i][0][0] - wanted[i].energy for i in range(4)])
    assert found.mae_forces == pytest.approx(np.abs(errors).mean(), rel=1e-9)
    assert found.rmse_forces == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-9)
    assert found.mae_energy_per_atom == pytest.approx(np.abs(energies).mean() / 3, rel=1e-9)


def test_every_structure_is_trained_on_once_per_epoch(
    labels: list[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[float]] = []
    real = TorchModel.take_step

    def spy(model, samples):
        seen[-1] += [sample.label.energy for sample in samples]
        sizes.append(len(samples))
        return real(model, samples)

    sizes: list[int] = []
    monkeypatch.setattr(TorchModel, "take_step", spy)
    member = fitted(labels[:11], seeds=(3,)).members[0]
    for _ in range(2):
        seen.append([])
        whole_epoch(member)
    assert sizes == [5, 2, 5, 2]
    assert sorted(seen[0]) == sorted(seen[1]) == sorted(label.energy for label in labels[:7])
    assert seen[0] != seen[1]  # shuffled anew


def test_one_point_and_a_batch_larger_than_the_set(labels: list[Label]) -> None:
    made = Ensemble(settings(batch_size=50, scaling="std_scaling"), ELEMENTS, (1,))
    member = made.members[0]
    member.add_training(labels[:1])
    member.add_validation(labels[1:2])
    # One structure has no standard deviation: the scale must not become NaN or 0.
    assert member.fit_normalisation().scale == 1.0
    assert math.isfinite(whole_epoch(member))
    assert math.isfinite(member.validate().mae_forces)


def test_equilibrium_of_one_element_has_usable_statistics() -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    at_rest = label(atoms, atoms.get_potential_energy(), np.zeros((4, 3)))
    made = Ensemble(settings(), (29,), (1,))
    member = made.members[0]
    member.add_training([at_rest])
    found = member.fit_normalisation()
    assert found.scale == 1.0
    assert found.avg_num_neighbors == 18.0  # 12 + 6 neighbours of fcc within 4 A
    assert math.isfinite(whole_epoch(member))


def test_isolated_atom_has_no_neighbours_to_average() -> None:
    member = Ensemble(settings(), (1,), (1,)).members[0]
    member.add_training([label(Atoms("H"), -13.0, np.zeros((1, 3)))])
    assert member.fit_normalisation().avg_num_neighbors == 1.0


def test_statistics_follow_the_growing_set_until_they_are_frozen(labels: list[Label]) -> None:
    made = Ensemble(settings(), ELEMENTS, (1,))
    member = made.members[0]
    member.add_training(labels[:2])
    first = member.fit_normalisation()
    weights = numbers(member)
    member.add_training(labels[2:8])
    second = member.fit_normalisation()
    forces = np.array([label.forces for label in labels[:8]])
    assert second.scale == pytest.approx(np.sqrt((forces**2).mean()))
    assert second.scale != first.scale
    assert second.shift == 0.0  # the model named MACE has none
    assert member.inference_model.normalisation == second
    assert same(weights, numbers(member))
    member.freeze_normalisation()
    with pytest.raises(RuntimeError, match="frozen"):
        member.fit_normalisation()


def test_shift_of_scale_shift_mace_is_the_mean_interaction_energy(labels: list[Label]) -> None:
    energies = {1: -10.0, 8: -100.0}
    made = ensemble(labels, (1,), model="ScaleShiftMACE", atomic_energies=energies)
    found = made.members[0].fit_normalisation()
    mean = np.mean([label.energy + 120.0 for label in labels[:-4]]) / 3
    assert found.shift == pytest.approx(mean)


def test_user_energies_are_never_touched(labels: list[Label]) -> None:
    energies = {1: -11.682, 6: -50.0, 8: -104.037}
    member = fitted(labels, (1,), atomic_energies=energies).members[0]
    whole_epoch(member)
    assert member.normalisation.atomic_energies == (-11.682, -104.037)


def test_element_without_user_energy_is_named(labels: list[Label]) -> None:
    made = ensemble(labels, (1,), atomic_energies={1: -11.682})
    with pytest.raises(ValueError, match=r"atomic_energies: no energy for atomic number 8"):
        made.members[0].fit_normalisation()


def test_statistics_written_in_place_equal_a_model_built_with_them(
    labels: list[Label],
) -> None:
    # avg_num_neighbors is a plain attribute of MACE's blocks: nothing may have copied it at build.
    # MACE's own extraction rebuilds the model from what it reads off this one.
    made = fitted(labels, (1,))
    member = made.members[0]
    assert member.normalisation.avg_num_neighbors == 2.0
    with default_dtype(torch.float64):
        whole = to_mace_model(member.inference_model.module, member.normalisation.atomic_energies)
        rebuilt = extract_model(whole)
    assert normalisation_of(rebuilt) == member.normalisation
    backend = made.backend
    expected = made.predict([labels[0]])[0].forces[0]
    inputs = backend.inputs([backend.sample(labels[0])], torch.float64)
    module = backend.to_runtime_model(rebuilt)
    found = backend.outputs(module, inputs, training=False, stress=False)["forces"]
    assert np.array_equal(found.detach().numpy(), expected)


def test_weights_come_from_the_seed_alone(labels: list[Label]) -> None:
    torch.manual_seed(0)
    one = ensemble(labels, (22, 11))
    first, second = (numbers(member) for member in one.members)
    before = torch.random.get_rng_state()
    # The other order: each member is once the template and once not.
    other = ensemble(labels, (11, 22))
    assert same(first, numbers(other.members[1]))
    assert same(second, numbers(other.members[0]))
    assert not same(first, second)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("ema", [True, False])
def test_validation_uses_the_averaged_weights_where_ema_is_on(
    labels: list[Label], ema: bool
) -> None:
    member = fitted(labels, (1,), ema=ema).members[0]
    for _ in range(3):
        whole_epoch(member)
    raw = numbers(member)
    used = [parameter.detach().clone() for parameter in member.inference_model.module.parameters()]
    assert same(raw, used) is not ema
    if ema:
        assert same(used, member.model.optimisation.average.shadow_params)


def test_snapshot_of_the_best_weights_comes_back(labels: list[Label]) -> None:
    made = fitted(labels, (1,))
    member = made.members[0]
    whole_epoch(member)
    best, error, forces = member.weights(), member.validate(), made.predict([labels[0]])[0].forces
    raw = numbers(member)
    for _ in range(3):
        whole_epoch(member)
    assert member.validate() != error
    member.set_weights(best)
    assert same(raw, numbers(member))
    assert member.validate() == error
    assert np.array_equal(made.predict([labels[0]])[0].forces, forces)


def test_fresh_optimizer_keeps_what_md_uses(labels: list[Label]) -> None:
    made = fitted(labels, (1,))
    member = made.members[0]
    whole_epoch(member)
    forces = made.predict([labels[0]])[0].forces
    assert member.model.optimisation.optimizer.state_dict()["state"]
    member.fresh_optimizer(scheduler=False)
    assert not member.model.optimisation.optimizer.state_dict()["state"]
    assert np.array_equal(made.predict([labels[0]])[0].forces, forces)


def test_second_stage_starts_from_what_md_uses(labels: list[Label]) -> None:
    made = fitted(labels, (1,), swa_lr=0.003)
    member = made.members[0]
    member.fresh_optimizer(scheduler=True)
    whole_epoch(member)
    forces = made.predict([labels[0]])[0].forces
    raw = numbers(member)
    member.begin_second_stage()
    assert np.array_equal(made.predict([labels[0]])[0].forces, forces)
    optimisation = member.model.optimisation
    assert same(numbers(member), optimisation.average.shadow_params)
    assert not same(numbers(member), raw)  # the average was not the raw weights
    assert not optimisation.optimizer.state_dict()["state"]
    for _ in range(20):  # far longer than scheduler_patience
        member.scheduler_step(1.0)
    assert (member.learning_rate, member.in_second_stage) == (0.003, True)
    member.fresh_optimizer(scheduler=False)
    assert (member.learning_rate, member.in_second_stage) == (0.01, False)


@pytest.mark.parametrize("loss", ["weighted", "l1l2energyforces"])
def test_second_stage_minimises_the_loss_with_its_own_weights(
    labels: list[Label], loss: str
) -> None:
    """The loss is linear in the two weights: what it is with others follows from two of them."""

    def of(energy: float, forces: float) -> float:
        keys = {"loss": loss, "swa_energy_weight": energy, "swa_forces_weight": forces}
        (member,) = fitted(labels, (1,), batch_size=100, **keys).members
        member.begin_second_stage()
        return whole_epoch(member)

    energy, forces = of(1.0, 0.0), of(0.0, 1.0)
    assert energy > 0 and forces > 0
    assert of(1000.0, 30.0) == pytest.approx(1000 * energy + 30 * forces, rel=1e-9)


def test_second_stage_goes_on_bit_for_bit_with_the_rate_of_the_settings(
    labels: list[Label],
) -> None:
    first = fitted(labels, (1,), swa_lr=0.003, batch_size=100).members[0]
    first.begin_second_stage()
    whole_epoch(first)
    saved = unpacked(packed(first.state()))
    losses = []
    for rate in (0.003, 0.001):
        again = ensemble(labels, (1,), swa_lr=rate, batch_size=100).members[0]
        again.load_state(saved)
        assert (again.learning_rate, again.in_second_stage) == (rate, True)
        losses.append([whole_epoch(again) for _ in range(2)])
    unbroken = [whole_epoch(first) for _ in range(2)]
    assert losses[0] == unbroken
    assert losses[1][0] == unbroken[0] and losses[1][1] != unbroken[1]  # as begun; then slower


def test_a_state_of_a_program_with_one_stage_is_one_of_the_first(labels: list[Label]) -> None:
    member = fitted(labels, (1,)).members[0]
    whole_epoch(member)
    state = member.state()
    del state["optimisation"]["second_stage"]
    again = ensemble(labels, (1,)).members[0]
    again.load_state(state)
    assert not again.in_second_stage
    assert whole_epoch(again) == whole_epoch(member)


def test_plateau_counts_epochs_however_rarely_they_are_validated(labels: list[Label]) -> None:
    member = fitted(labels, (1,), lr=0.01, lr_factor=0.5, scheduler_patience=5).members[0]
    member.fresh_optimizer(scheduler=True)
    rates = []
    for mae in (1.0, 0.5, 0.5, 0.5):  # falls, falls, stands, stands; 4 epochs between validations
        for given in (None, None, None, mae):
            member.scheduler_step(given)
        rates.append(member.learning_rate)
    assert rates == [0.01, 0.01, 0.01, 0.005]


def test_a_larger_validation_set_is_neither_an_improvement_nor_a_plateau(
    labels: list[Label],
) -> None:
    # As when points join while the initial dataset grows: errors on another set than before.
    member = fitted(labels[:-1], (1,), lr=0.01, lr_factor=0.5, scheduler_patience=2).members[0]
    member.fresh_optimizer(scheduler=True)
    for mae in (1e-9, 1.0, 1.0):  # a lucky first set, never reached again; two bad epochs
        member.scheduler_step(mae)
    member.add_validation(labels[-1:])
    before = member.validate()
    member.restart_plateau()
    assert member.learning_rate == 0.01
    assert member.validate() == before
    member.scheduler_step(before.mae_forces)  # the third bad epoch: what was counted still counts
    assert member.learning_rate == 0.005
    member.scheduler_step(0.9 * before.mae_forces)
    for _ in range(2):
        member.scheduler_step(before.mae_forces)
    assert member.learning_rate == 0.005
    member.scheduler_step(before.mae_forces)
    assert member.learning_rate == 0.0025


def test_a_changed_scheduler_patience_counts_from_the_next_launch_on(labels: list[Label]) -> None:
    first = fitted(labels, (1,), scheduler_patience=50).members[0]
    first.fresh_optimizer(scheduler=True)
    for _ in range(3):
        first.scheduler_step(1.0)  # two bad epochs
    changed = {"scheduler_patience": 2, "lr_factor": 0.5}
    again = fitted(labels, (1,), **changed).members[0]
    again.load_state(first.state())
    again.scheduler_step(1.0)
    assert (first.learning_rate, again.learning_rate) == (0.01, 0.005)


def test_no_scheduler_without_being_asked_for(labels: list[Label]) -> None:
    member = fitted(labels, (1,), scheduler="ExponentialLR", lr_scheduler_gamma=0.5).members[0]
    member.scheduler_step(1.0)
    assert member.learning_rate == 0.01
    member.fresh_optimizer(scheduler=True)
    member.scheduler_step(None)
    assert member.learning_rate == 0.005


def test_weights_that_blew_up_are_seen(labels: list[Label]) -> None:
    member = fitted(labels, (1,)).members[0]
    assert member.is_finite()
    broken = replace(labels[0], key="broken", energy=math.nan)
    with pytest.raises(ValueError, match="label broken cannot be trained on"):
        member.add_training([broken])
        whole_epoch(member)
    next(member.model.module.parameters()).data[0] = math.inf
    assert not member.is_finite()


def test_weight_of_a_label_follows_its_origin(labels: list[Label]) -> None:
    weights = {"Default": 0.5, "active_learning": 3.0, "initial": 2.0, "bulk": 7.0}
    member = ensemble(labels, (1,), config_type_weights=weights).members[0]
    later = replace(labels[0], key="later", origin=Origin("sanity", 0, 0))
    imported = replace(labels[0], key="imported", origin=Origin("imported", 0, 1))
    names = {"bulk": 7.0, "initial": 2.0, "surface": 0.5, None: 0.5}
    assert labels[0].origin.phase == "initial"
    assert float(member._backend.label_sample(labels[0]).weight) == 2.0
    assert float(member._backend.label_sample(later).weight) == 3.0
    for name, weight in names.items():
        named = replace(imported, key=f"imported {name}", given_config_type=name)
        assert float(member._backend.label_sample(named).weight) == weight


def test_training_needs_statistics_and_validation_needs_labels() -> None:
    member = Ensemble(settings(), ELEMENTS, (1,)).members[0]
    with pytest.raises(RuntimeError, match="fit_normalisation"):
        whole_epoch(member)
    with pytest.raises(RuntimeError, match="no validation labels"):
        member.validate()
    with pytest.raises(ValueError, match="no training labels"):
        member.fit_normalisation()


def test_pool_validates_every_so_many_epochs_and_at_the_last(labels: list[Label]) -> None:
    made = fitted(labels)
    pool = SerialTrainingPool(made, 3)
    records = pool.begin([1], 4).finish()
    assert [record.epoch for record in records] == [1, 2, 3, 4]
    assert [record.errors is not None for record in records] == [False, False, True, True]
    # Counted since the beginning: epoch 6 is the second of the next round.
    records = pool.begin([1], 3).finish()
    assert [record.errors is not None for record in records] == [False, True, True]
    assert made.members[0].epochs == 0


def test_training_of_a_member_does_not_depend_on_the_others(labels: list[Label]) -> None:
    alone, together = fitted(labels, (11,)), fitted(labels, (11, 22))
    SerialTrainingPool(alone, 5).begin([0], 3).finish()
    SerialTrainingPool(together, 5).begin([1, 0], 3).finish()
    assert same(numbers(alone.members[0]), numbers(together.members[0]))
