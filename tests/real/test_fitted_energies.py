"""Before a validation a member loses the constant part of its energy errors, and nothing else."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from mace.calculators import MACECalculator
from models_parts import fitted, water_labels

from fhi_al.core.label import Label
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.training import SerialTrainingPool, whole_epoch

pytestmark = pytest.mark.real

E0S = {1: -11.681719, 8: -104.037481}


@pytest.fixture(scope="module")
def labels() -> list[Label]:
    return water_labels(14)


def trained(labels: list[Label], **changes: object) -> Ensemble:
    """Two members after three epochs, validated once."""
    made = fitted(labels, **changes)
    SerialTrainingPool(made, 3).begin([0, 1], 3).finish()
    return made


def energy_errors(made: Ensemble, labels: list[Label]) -> np.ndarray:
    """(n_members, n_labels) in eV."""
    predicted = np.array([each.energies for each in made.predict(labels)]).T
    return predicted - np.array([label.energy for label in labels])


@pytest.mark.parametrize("given", [{}, {"atomic_energies": E0S}], ids=["averages", "the user's"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_mean_error_is_gone_after_a_validation(labels, dtype, given) -> None:
    changes = {"default_dtype": dtype, **given}
    with_it = trained(labels, **changes)
    without = trained(labels, fit_atomic_energies=False, **changes)
    for member in range(2):
        training = with_it.members[member].training
        assert abs(energy_errors(without, training)[member].mean()) > 0.05
        assert abs(energy_errors(with_it, training)[member].mean()) < 1e-4
        found = with_it.members[member].validate().rmse_energy_per_atom
        assert found < without.members[member].validate().rmse_energy_per_atom


def test_forces_weights_and_the_differences_of_given_e0s_stay(labels) -> None:
    made = fitted(labels, atomic_energies=E0S)
    member = made.members[0]
    whole_epoch(member)
    before, forces = member.weights(), made.predict([labels[0]], [0])[0].forces[0]
    member.fit_atomic_energies()
    after = member.weights()
    assert np.array_equal(made.predict([labels[0]], [0])[0].forces[0], forces)
    assert all(bool((after["model"][name] == it).all()) for name, it in before["model"].items())
    hydrogen, oxygen = member.normalisation.atomic_energies
    assert hydrogen != E0S[1]
    assert oxygen - hydrogen == pytest.approx(E0S[8] - E0S[1], abs=1e-10)


def test_exported_models_have_it_and_a_state_goes_on_bit_for_bit(labels, tmp_path) -> None:
    made = trained(labels)
    path = made.export(tmp_path, "water", [0])[0]
    atoms = Atoms(labels[0].numbers, labels[0].positions)
    atoms.calc = MACECalculator(model_paths=[str(path)], device="cpu")
    assert atoms.get_potential_energy() == pytest.approx(made.predict(labels)[0].energies[0])
    again = fitted(labels)
    again.load_state_bytes(made.state_bytes())
    for one in (made, again):
        SerialTrainingPool(one, 3).begin([0, 1], 4).finish()
    assert made.state_bytes() == again.state_bytes()


def hydrogen_label(water: Label) -> Label:
    """Two of its atoms, with an energy that its E0s know nothing of; forces do not matter."""
    return replace(
        water,
        key=f"{water.key}-hydrogen",
        system=1,
        numbers=water.numbers[1:],
        positions=water.positions[1:],
        forces=water.forces[1:],
        energy=-26.6,
    )


@pytest.mark.parametrize("given", [{}, {"atomic_energies": E0S}], ids=["averages", "the user's"])
def test_a_composition_that_is_new_is_taken_into_frozen_e0s(labels, given) -> None:
    """Of a system that is added to a finished run; E0s of the user's own are what they are."""
    made = trained(labels, fit_atomic_energies=False, **given)
    member = made.members[0]
    member.freeze_normalisation()
    before = member.normalisation
    new = [hydrogen_label(label) for label in member.training[:4]]
    member.add_training(new)
    assert abs(energy_errors(made, new)[0].mean()) > 1.0
    member.fit_energies_of_new_compositions()
    assert (member.normalisation == before) == bool(given)
    if not given:
        for some in (new, member.training[:-4]):
            assert abs(energy_errors(made, some)[0].mean()) < 1e-3


def test_compositions_that_no_e0s_fit_are_told(labels, caplog) -> None:
    made = trained(labels, fit_atomic_energies=False)
    member = made.members[0]
    member.freeze_normalisation()
    hydrogen = hydrogen_label(member.training[0])
    hydroxyl = replace(hydrogen, key="hydroxyl", numbers=labels[0].numbers[:2], energy=0.0)
    with caplog.at_level(logging.WARNING):
        member.add_training([hydrogen])
        member.fit_energies_of_new_compositions()
        assert not caplog.records
        member.add_training([hydroxyl])
        member.fit_energies_of_new_compositions()
    (said,) = (record.getMessage() for record in caplog.records)
    assert "the model's energies of a composition are off by" in said
    assert "no E0s fit the labels of all compositions" in said
