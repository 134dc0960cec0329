"""Energies of the size that all-electron codes give: float32 costs no more than its rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from mace.calculators import MACECalculator
from models_parts import label, settings

from fhi_al.core.label import Label
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.training import whole_epoch

pytestmark = pytest.mark.real

# eV per atom, about as large as all-electron codes give them.
GOLD, COPPER = -535_642.871_234, -45_242.317_771
E0 = {79: GOLD, 29: COPPER}
# eV per atom: 0.1 meV.
NEAR = 1e-4


def gold_labels(n_labels: int, size: int = 3) -> list[Label]:
    """Rattled gold crystals (108 atoms for size 3), two of them copper, with EMT's energies."""
    made = []
    for step in range(n_labels):
        atoms = bulk("Au", cubic=True, a=4.08) * (size, size, size)
        atoms.numbers[:2] = 29
        atoms.rattle(0.12, seed=step)
        atoms.calc = EMT()
        energy = atoms.get_potential_energy() + sum(E0[number] for number in atoms.numbers)
        made.append(label(atoms, energy, atoms.get_forces(), step))
    return made


@pytest.fixture(scope="module")
def labels() -> list[Label]:
    return gold_labels(3)


def member_of(labels: list[Label], **changes: object) -> Ensemble:
    """One member with the E0s above; the last label validates."""
    small = {"num_channels": 4, "batch_size": 2, "ema": False}
    changes = {"atomic_energies": E0, **small, **changes}
    made = Ensemble(settings(**changes), E0, (1,))
    member = made.members[0]
    member.add_training(labels[:-1])
    member.add_validation(labels[-1:])
    member.fit_normalisation()
    return made


def both(labels: list[Label], **changes: object) -> tuple[Ensemble, Ensemble]:
    """A member of float32, and one of float64 with the same weights."""
    single = member_of(labels, default_dtype="float32", **changes)
    double = member_of(labels, default_dtype="float64", **changes)
    double.members[0].set_weights(single.members[0].weights())
    return single, double


@pytest.mark.parametrize(
    "changes",
    [{"scaling": "rms_forces_scaling"}, {"model": "ScaleShiftMACE", "scaling": "std_scaling"}],
)
def test_float32_trains_and_predicts_with_the_energies_of_float64(
    labels: list[Label], changes: dict[str, str]
) -> None:
    assert np.spacing(np.float32(-labels[0].energy)) == 4.0  # eV: what float32 would keep of them
    single, double = both(labels, **changes)
    of_md = double.predictor("float32")
    expected = double.predict(labels)
    for predictor in (single, of_md):
        for ours, exact in zip(predictor.predict(labels), expected, strict=True):
            assert 0 < abs(ours.energies[0] - exact.energies[0]) / 108 < NEAR
    ours, exact = single.members[0].validate(), double.members[0].validate()
    by_hand = abs(expected[-1].energies[0] - labels[-1].energy) / 108
    assert exact.mae_energy_per_atom == pytest.approx(by_hand, abs=1e-9)  # sums of 58 MeV
    assert ours.mae_energy_per_atom == pytest.approx(by_hand, abs=NEAR)
    assert ours.loss == pytest.approx(exact.loss, rel=1e-4)
    fits = [made.members[0].fit_normalisation() for made in (single, double)]
    assert fits[0].atomic_energies == fits[1].atomic_energies == (COPPER, GOLD)
    assert fits[0].shift == pytest.approx(fits[1].shift, abs=NEAR)
    assert fits[0].scale == pytest.approx(fits[1].scale, rel=1e-4)
    losses = [whole_epoch(made.members[0]) for made in (single, double)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_energies_learnt_from_the_data_alone_are_as_good() -> None:
    # Least squares over compositions that differ: they come out as large as those given.
    labels = [*gold_labels(2, size=2), *gold_labels(2, size=1)]
    single, double = both(labels, atomic_energies=None)
    assert single.members[0].normalisation.atomic_energies[1] == pytest.approx(GOLD, rel=1e-3)
    for ours, exact in zip(single.predict(labels), double.predict(labels), strict=True):
        assert ours.energies[0] == pytest.approx(exact.energies[0], abs=NEAR * 4)


def test_a_predictor_knows_the_one_in_the_precision_of_training(labels: list[Label]) -> None:
    made = member_of(labels)
    assert made.predictor("float32").as_trained is made
    assert made.as_trained is made


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_exported_model_has_all_of_its_energies_for_mace(
    labels: list[Label], tmp_path: Path, dtype: str
) -> None:
    made = member_of(labels, default_dtype=dtype)
    (path,) = made.export(tmp_path, "gold")
    one = labels[0]
    atoms = Atoms(one.numbers, one.positions, cell=one.cell, pbc=True)
    atoms.calc = MACECalculator(model_paths=[str(path)], device="cpu")  # in the file's precision
    (expected,) = made.predict([one])
    assert abs(atoms.get_potential_energy() - expected.energies[0]) / 108 < NEAR
    np.testing.assert_allclose(atoms.get_forces(), expected.forces[0], atol=1e-4)  # eV/A, float32
    (compiled,) = made.export_compiled(tmp_path, "gold")
    assert torch.jit.load(compiled).atomic_energies_fn.atomic_energies.tolist() == [[COPPER, GOLD]]
    made.load_exported(path, 0)
    assert made.members[0].normalisation.atomic_energies == (COPPER, GOLD)
    assert made.predict([one])[0].energies == expected.energies


def test_a_state_that_holds_energies_within_the_model_still_loads(labels: list[Label]) -> None:
    made = member_of(labels, default_dtype="float32")
    member = made.members[0]
    (expected,) = made.predict(labels[:1])
    old = member.state()
    # As states were written before: rounded by the model's own precision, there and in statistics.
    rounded = torch.tensor([[COPPER, GOLD]], dtype=torch.float32)
    copper, gold = rounded.double().flatten().tolist()
    old["model"]["atomic_energies_fn.atomic_energies"] = rounded
    old["statistics"]["atomic_energies"] = (copper, gold)
    member.load_state(old)
    (found,) = made.predict(labels[:1])
    by_hand = expected.energies[0] + 2 * (copper - COPPER) + 106 * (gold - GOLD)
    assert found.energies[0] == pytest.approx(by_hand, abs=1e-6)  # eV: float64 sums of 58 MeV
    assert np.array_equal(found.forces, expected.forces)
