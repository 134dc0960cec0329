"""Losses with stress: ours equal MACE's, labels without a stress do not count, stress is learnt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.lj import LennardJones
from models_parts import label, settings
from pair_potential import PairPotential

from fhi_al.core.label import Label
from fhi_al.models.batches import places_in_batch, reference_tensors, relative_energies
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.loss import PLAIN_LOSSES, EnergyForcesLoss, LossWeights
from fhi_al.models.mace.arguments import mace_arguments
from fhi_al.models.mace.backend import MaceBackend
from fhi_al.models.mace.loss import MaceLoss
from fhi_al.models.torch_backend import TorchBackend
from fhi_al.models.training import whole_epoch
from fhi_al.settings.mace import MaceSettings
from fhi_al.settings.mace_choices import STRESS_LOSSES
from fhi_al.settings.model_backends import declaration

pytestmark = pytest.mark.real

WEIGHTS = LossWeights(energy=2.0, forces=30.0, stress=50.0, virials=7.0)
CPU = torch.device("cpu")


def crystals(n_labels: int) -> list[Label]:
    """Strained argon crystals of four atoms with their stress."""
    random = np.random.default_rng(3)
    found = []
    for step in range(n_labels):
        atoms = bulk("Ar", "fcc", a=3.6, cubic=True)
        strain = np.eye(3) + random.normal(0, 0.02, (3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.rattle(0.1, rng=random)
        atoms.calc = LennardJones(sigma=2.4, epsilon=0.3, rc=5.0, smooth=True)
        stress = atoms.get_stress(voigt=False)
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        found.append(label(atoms, energy, forces, step, stress=stress))
    return found


def with_stress(loss: str = "stress", **training: Any) -> MaceSettings:
    """Settings of a pair potential that is trained on stress."""
    made = declaration("pair_potential:PairPotential")
    return MaceSettings.model_validate(
        {
            "general": {"compute_stress": True},
            "architecture": made.architecture.model_validate({"r_max": 5.0, "num_functions": 12}),
            "training": {"batch_size": 4, "lr": 0.02, "loss": loss, **training},
            "backend": made.name,
            "backend_class": made.backend,
        }
    )


def batch(labels: list[Label], backend: TorchBackend) -> dict[str, torch.Tensor]:
    """What a loss compares with."""
    samples = [backend.label_sample(one) for one in labels]
    return {
        **reference_tensors(samples, torch.float64, CPU),
        "energy": torch.as_tensor(relative_energies(samples, (-1.0,))),
        "ptr": places_in_batch(tuple(one.n_atoms for one in samples), CPU)[1]["ptr"],
    }


def off(reference: dict[str, torch.Tensor], size: float) -> dict[str, torch.Tensor]:
    """Predictions that are off by random errors of a size."""
    torch.manual_seed(1)
    names = ("energy", "forces", "stress")
    return {name: reference[name] + size * torch.randn_like(reference[name]) for name in names}


@pytest.fixture(scope="module")
def backend() -> PairPotential:
    return PairPotential(with_stress(config_type_weights={"Default": 1.0, "rare": 0.0}), [18])


@pytest.fixture(scope="module")
def mixed() -> list[Label]:
    """One without a stress; forces beyond all the limits of the loss "universal"."""
    one, two, three, four = crystals(4)
    large = two.forces * np.array([[1.0], [150.0], [250.0], [400.0]]) / np.abs(two.forces).max()
    return [one, replace(two, forces=large), replace(three, stress=None), four]


def of_mace(kind: str, weights: LossWeights = WEIGHTS) -> MaceLoss:
    compute = kind in STRESS_LOSSES
    arguments = mace_arguments(settings(loss=kind, compute_stress=compute, huber_delta=0.02))
    return MaceLoss(arguments, weights, torch.float64, CPU)


@pytest.mark.parametrize("size", [0.005, 0.5])
@pytest.mark.parametrize("kind", sorted(PLAIN_LOSSES | STRESS_LOSSES))
def test_our_losses_are_those_of_mace(
    kind: str, size: float, backend: PairPotential, mixed: list[Label]
) -> None:
    reference = batch(mixed, backend)
    output = off(reference, size)
    ours = EnergyForcesLoss(kind, WEIGHTS, 0.02)(output, reference)
    assert float(ours) == pytest.approx(float(of_mace(kind)(output, reference)), rel=1e-12)


@pytest.mark.parametrize("kind", sorted(STRESS_LOSSES))
def test_the_stress_term_counts_what_has_a_stress_and_nothing_else(
    kind: str, backend: PairPotential, mixed: list[Label]
) -> None:
    reference = batch(mixed, backend)
    output = off(reference, 0.5)
    for loss in (EnergyForcesLoss(kind, WEIGHTS, 0.02), of_mace(kind)):
        before = float(loss(output, reference))
        for place, counts in ((2, False), (3, True)):
            other = {**output, "stress": output["stress"].clone()}
            other["stress"][place] += 1.0
            assert (float(loss(other, reference)) != before) == counts, place


@pytest.mark.parametrize("kind", sorted(PLAIN_LOSSES | STRESS_LOSSES))
def test_the_losses_of_parts_add_up_to_that_of_the_whole(
    kind: str, backend: PairPotential, mixed: list[Label]
) -> None:
    reference = batch(mixed, backend)
    output = off(reference, 0.5)
    n_first = len(mixed[0].numbers)
    parts = []
    for labels, structures, atoms in (
        (mixed[:1], slice(0, 1), slice(0, n_first)),
        (mixed[1:], slice(1, None), slice(n_first, None)),
    ):
        part = {
            name: values[atoms if name == "forces" else structures]
            for name, values in output.items()
        }
        parts.append((batch(labels, backend), part))
    for loss in (EnergyForcesLoss(kind, WEIGHTS, 0.02), of_mace(kind)):
        found = sum(
            float(loss(part, of_part, len(of_part["weight"]) / 4, len(part["forces"]) / 16))
            for of_part, part in parts
        )
        assert found == pytest.approx(float(loss(output, reference)), rel=1e-12)


@pytest.mark.parametrize("kind", sorted(PLAIN_LOSSES | STRESS_LOSSES))
def test_a_structure_of_weight_zero_has_no_error(
    kind: str, backend: PairPotential, mixed: list[Label]
) -> None:
    labels = [replace(mixed[0], key="rare", given_config_type="rare"), *mixed[1:]]
    reference = batch(labels, backend)
    output = off(reference, 0.5)
    right = {name: values.clone() for name, values in output.items()}
    right["energy"][0], right["stress"][0] = reference["energy"][0], reference["stress"][0]
    right["forces"][:4] = reference["forces"][:4]
    for loss in (EnergyForcesLoss(kind, WEIGHTS, 0.02), of_mace(kind)):
        assert float(loss(output, reference)) == float(loss(right, reference))


@pytest.mark.parametrize("kind", sorted(STRESS_LOSSES))
def test_stress_is_learnt_also_from_a_set_in_which_some_labels_have_none(kind: str) -> None:
    labels = crystals(12)
    labels[1] = replace(labels[1], stress=None)
    made = Ensemble(with_stress(kind, stress_weight=1000.0, virials_weight=100.0), [18], (1,))
    (member,) = made.members
    member.add_training(labels[:8])
    member.add_validation([*labels[8:], replace(labels[0], key="a", stress=None)])
    member.fit_normalisation()
    before = member.validate().mae_stress
    for _ in range(60):
        assert np.isfinite(whole_epoch(member))
    found = member.validate()
    assert before is not None and found.mae_stress is not None and found.rmse_stress is not None
    assert found.mae_stress < 0.5 * before
    predicted = made.predict(labels[8:], stress=True)
    errors = [
        one.stress[0] - each.stress
        for one, each in zip(predicted, labels[8:], strict=True)
        if one.stress is not None
    ]
    assert found.mae_stress == pytest.approx(np.abs(errors).mean(), rel=1e-10)
    assert found.rmse_stress == pytest.approx(np.sqrt(np.square(errors).mean()), rel=1e-10)


def test_the_second_stage_has_stress_weights_of_its_own() -> None:
    labels = crystals(6)
    losses = {}
    for weight in (10.0, 1e4):
        (member,) = Ensemble(with_stress(swa_stress_weight=weight), [18], (1,)).members
        member.add_training(labels[:4])
        member.add_validation(labels[4:])
        member.fit_normalisation()
        first = whole_epoch(member)
        member.begin_second_stage()
        losses[weight] = first, whole_epoch(member)
    assert losses[10.0][0] == losses[1e4][0]
    assert losses[10.0][1] < losses[1e4][1]


def test_molecules_may_stand_beside_crystals_in_a_batch_with_stress() -> None:
    crystal, other = crystals(2)
    far = np.array([[0.0, 0.0, 0.0], [2.6, 0.0, 0.0]])
    molecule = replace(
        crystal,
        key="molecule",
        numbers=np.array([18, 18]),
        positions=far,
        cell=np.zeros((3, 3)),
        pbc=False,
        forces=np.zeros((2, 3)),
        stress=None,
    )
    (member,) = Ensemble(with_stress(), [18], (1,)).members
    member.add_training([crystal, molecule])
    member.add_validation([other, molecule])
    member.fit_normalisation()
    for _ in range(3):
        assert np.isfinite(whole_epoch(member))
    assert member.is_finite()
    assert np.isfinite(member.validate().loss)


def test_without_compute_stress_no_error_of_it_is_reported() -> None:
    labels = crystals(4)
    (member,) = Ensemble(
        with_stress("weighted").model_copy(update={"general": settings().general}), [18], (1,)
    ).members
    member.add_training(labels[:2])
    member.add_validation(labels[2:])
    member.fit_normalisation()
    assert member.validate().mae_stress is None


@pytest.mark.parametrize("kind", ["stress", "virials", "universal"])
def test_mace_learns_stress(kind: str) -> None:
    labels = crystals(8)
    made = Ensemble(
        settings(loss=kind, compute_stress=True, stress_weight=1e3, virials_weight=10.0),
        [18],
        (1,),
    )
    assert isinstance(made.backend, MaceBackend)
    (member,) = made.members
    member.add_training(labels[:6])
    member.add_validation(labels[6:])
    member.fit_normalisation()
    before = member.validate().mae_stress
    for _ in range(15):
        whole_epoch(member)
    after = member.validate().mae_stress
    assert before is not None and after is not None
    assert after < 0.7 * before
