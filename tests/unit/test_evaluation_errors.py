"""Errors of models on labelled structures: numbers known by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from fhi_al.core.label import Label, Origin
from fhi_al.core.structure import geometry_key
from fhi_al.evaluation.errors import (
    energy_errors,
    force_scale,
    model_errors,
    spread_of,
    worst_first,
)
from fhi_al.evaluation.predictions import Labelled, Predicted, mean_of, predicted
from fhi_al.evaluation.tables import error_table, part_tables
from fhi_al.models.interface import Prediction


def structure(
    numbers: Sequence[int], energy: float, forces: Any, system: str = "", **more: Any
) -> Labelled:
    """A labelled structure somewhere."""
    positions = np.arange(3.0 * len(numbers)).reshape(-1, 3)
    label = Label(
        key=geometry_key(0, positions, np.zeros((3, 3))),
        system=0,
        numbers=np.array(numbers),
        positions=positions,
        cell=np.zeros((3, 3)),
        pbc=False,
        energy=energy,
        forces=np.broadcast_to(np.asarray(forces, dtype=float), (len(numbers), 3)),
        stress=more.get("stress"),
        origin=Origin("imported", 0, 1),
    )
    return Labelled(label, 1, system)


def off_by(structures: Sequence[Labelled], energies: Sequence[float], forces: Any) -> Predicted:
    """Predictions that are off by these energies, and by a force on every atom."""
    return Predicted(
        np.array([each.label.energy for each in structures]) + energies,
        [each.label.forces + forces for each in structures],
        [None for _ in structures],
    )


def test_errors_are_of_components_and_of_energies_per_atom() -> None:
    water, hydroxyl = structure([8, 1, 1], -10.0, 1.0), structure([8, 1], -7.0, 0.0)
    found = off_by([water, hydroxyl], [0.3, -0.4], [0.0, 0.1, -0.2])
    errors = model_errors([water, hydroxyl], found)
    assert errors.forces.mae == pytest.approx(0.1)
    assert errors.forces.rmse == pytest.approx(np.sqrt((0.01 + 0.04) / 3))
    assert errors.forces.largest == pytest.approx(0.2)
    assert errors.forces.n_values == 15
    assert errors.energy_per_atom.mae == pytest.approx((0.1 + 0.2) / 2)
    assert errors.energy_per_atom.rmse == pytest.approx(np.sqrt((0.01 + 0.04) / 2))
    assert errors.stress is None
    np.testing.assert_allclose(energy_errors([water, hydroxyl], found), [0.3, -0.4])
    # Of fifteen components nine are 1 eV/A.
    assert force_scale([water, hydroxyl]) == pytest.approx(np.sqrt(9 / 15))


def test_a_constant_for_each_element_is_taken_off_energies() -> None:
    kinds = [[8, 1, 1], [8, 1], [1, 1], [8, 8], [8, 1, 1], [1, 1]]
    structures = [structure(numbers, -5.0, 0.0) for numbers in kinds]
    constants = {8: -3.0, 1: 0.5}
    off = [sum(constants[z] for z in numbers) for numbers in kinds]
    off[-1] += 0.02
    errors = model_errors(structures, off_by(structures, off, 0.0))
    assert errors.constants == pytest.approx({"O": -3.0, "H": 0.5}, abs=0.01)
    assert errors.energy_per_atom.mae > 0.5
    assert errors.energy_without_constants is not None
    assert errors.energy_without_constants.largest < 0.01
    # One composition does not say whose constant it is.
    alike = [structure([8, 1, 1], -10.0, 0.0) for _ in range(5)]
    same = model_errors(alike, off_by(alike, [3.0] * 5, 0.0))
    assert same.energy_without_constants is not None
    assert same.energy_without_constants.largest == pytest.approx(0.0, abs=1e-9)
    assert same.constants == {}
    # Two structures would be fitted whatever they are.
    few = model_errors(structures[:2], off_by(structures[:2], off[:2], 0.0))
    assert few.energy_without_constants is None and few.constants == {}


@pytest.mark.parametrize(
    "kinds",
    [
        [[8, 1, 1], [8, 8, 1, 1, 1, 1]],
        # Three compositions of three elements: hydrogen and oxygen come together only.
        [[8, 1, 1], [6, 8, 1, 1], [6, 6, 8, 1, 1]],
    ],
    ids=["a molecule and two of it", "a group that stays together"],
)
def test_constants_that_compositions_do_not_determine_are_not_shown(kinds) -> None:
    structures = [structure(numbers, -5.0, 0.0) for numbers in kinds for _ in range(4)]
    constants = {1: 0.5, 6: 2.0, 8: -3.0}
    off = [sum(constants[int(z)] for z in each.label.numbers) for each in structures]
    errors = model_errors(structures, off_by(structures, off, 0.0))
    assert errors.constants == {}
    assert errors.energy_without_constants is not None
    assert errors.energy_without_constants.largest == pytest.approx(0.0, abs=1e-9)


def test_structures_enough_for_the_constants_they_determine_suffice() -> None:
    # Water alone and twice: one constant, which three structures test.
    structures = [structure(numbers, -5.0, 0.0) for numbers in ([8, 1, 1], [8, 1, 1] * 2) * 2][:3]
    errors = model_errors(structures, off_by(structures, [3.0, 6.0, 3.0], 0.0))
    assert errors.energy_without_constants is not None


def test_errors_by_element_and_by_system() -> None:
    water, gas = structure([8, 1, 1], -10.0, 1.0, "water"), structure([1, 1], -1.0, 0.0, "gas")
    found = off_by([water, gas], [0.3, 0.0], 0.0)
    found.forces[0][0] += 0.6
    errors = model_errors([water, gas], found)
    assert errors.by_element["O"].mae == pytest.approx(0.6)
    assert errors.by_element["H"].mae == 0.0
    assert errors.by_element["H"].n_values == 12
    assert errors.by_system["water"].forces.mae == pytest.approx(0.2)
    assert errors.by_system["gas"].energy_per_atom.mae == 0.0
    lines = part_tables(errors, "one.model")
    assert any(line.startswith("O") and "600.0" in line for line in lines)
    assert [line.split()[0] for line in lines[-2:]] == ["water", "gas"]


def test_errors_of_a_stress() -> None:
    crystals = [structure([6], -1.0, 0.0, stress=np.eye(3)), structure([6], -1.0, 0.0)]
    found = Predicted(np.array([-1.0, -1.0]), [np.zeros((1, 3))] * 2, [np.eye(3) + 0.09, None])
    errors = model_errors(crystals, found)
    assert errors.stress is not None
    assert (errors.stress.mae, errors.stress.n_values) == (pytest.approx(0.09), 9)
    assert "stress MAE" in error_table({"one": errors})[0]


def test_the_mean_of_models_may_be_right_where_each_is_wrong() -> None:
    one = structure([8, 1], -7.0, 0.0)
    each = [off_by([one], [sign * 0.2], sign * 0.1) for sign in (1, -1)]
    assert model_errors([one], mean_of(each)).forces.mae == pytest.approx(0.0, abs=1e-15)
    spread = spread_of([one], each)
    # Both members are 0.1 eV/A off in every component, their mean is not.
    assert spread.uncertainties == pytest.approx((0.1,))
    assert spread.errors == pytest.approx((0.0,), abs=1e-15)
    assert spread.fit is None


def test_a_spread_of_half_of_the_error_is_found() -> None:
    structures = [structure([8, 1], -7.0, 0.0) for _ in range(40)]
    sizes = np.linspace(0.05, 0.2, 40)
    each = [
        Predicted(
            np.full(40, -7.0),
            [np.full((2, 3), 2 * size + sign * size) for size in sizes],
            [None] * 40,
        )
        for sign in (1, -1)
    ]
    fit = spread_of(structures, each).fit
    assert fit is not None
    assert fit.scale == pytest.approx(2.0)
    assert fit.spearman == pytest.approx(1.0)


def test_the_worst_structure_has_the_largest_error_on_an_atom() -> None:
    structures = [structure([8, 1], -7.0, 0.0) for _ in range(3)]
    found = off_by(structures, [0.0] * 3, 0.0)
    found.forces[1][1] += [0.3, 0.0, 0.4]
    found.forces[2][0] += 0.1
    assert worst_first(structures, found)[0] == (1, pytest.approx(0.5))
    assert [place for place, _ in worst_first(structures, found)] == [1, 2, 0]


class Broken:
    """Predicts numbers that are none."""

    def predict(self, geometries: Any, members: Any = None, *, stress: bool = False) -> Any:
        return [
            Prediction(np.array([np.nan]), np.zeros((1, len(one.numbers), 3))) for one in geometries
        ]

    @property
    def as_trained(self) -> Any:
        return self


def test_predictions_that_are_not_finite_are_refused_with_their_frame() -> None:
    with pytest.raises(ValueError, match=r"frame 1: .*not finite"):
        predicted(Broken(), 1, [structure([8, 1], -7.0, 0.0)])
