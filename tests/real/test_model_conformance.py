"""The public check of model backends: who passes, and what it says of broken promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pair_potential import PairPotential

from fhi_al.models import conformance
from fhi_al.models.interface import NormalisationConstants
from fhi_al.models.torch_model import TorchInference

pytestmark = pytest.mark.real

SMALL_MACE = {
    "r_max": 4.0,
    "num_channels": 4,
    "max_L": 0,
    "max_ell": 1,
    "correlation": 2,
    "radial_MLP": [8],
    "MLP_irreps": "4x0e",
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_mace_keeps_all_promises(dtype: str) -> None:
    conformance.check("mace", architecture=SMALL_MACE, dtypes=[dtype])


def test_the_docs_show_the_backend_that_is_tested() -> None:
    tests = Path(__file__).parents[1]
    text = (tests.parent / "docs" / "developer" / "models.md").read_text()
    assert (tests / "backends" / "pair_potential.py").read_text() in text


def test_a_pair_potential_keeps_all_promises() -> None:
    conformance.check("pair_potential:PairPotential", elements=(1, 6, 8))


class Broken(PairPotential):
    """A base of backends each of which breaks one promise."""


class ForcesOfAnotherFunction(Broken):
    def outputs(self, module: Any, inputs: Any, *, training: bool, stress: bool) -> Any:
        found = super().outputs(module, inputs, training=training, stress=stress)
        return {**found, "forces": 1.01 * found["forces"]}


class StressOfTheOtherSign(Broken):
    def outputs(self, module: Any, inputs: Any, *, training: bool, stress: bool) -> Any:
        found = super().outputs(module, inputs, training=training, stress=stress)
        return {**found, "stress": -found["stress"]} if stress else found


class SeesTheAxes(Broken):
    def energies(self, module: Any, inputs: Any) -> Any:
        first, second = inputs["edge_index"]
        along = inputs["positions"][second] - inputs["positions"][first] + inputs["shifts"]
        extra = 1e-2 * module.functions(inputs)[:, 0] * along[:, 2] ** 2
        of_pairs = extra.new_zeros(len(inputs["ptr"]) - 1)
        return super().energies(module, inputs) + of_pairs.index_add(
            0, inputs["batch"][first], extra
        )


class KnowsItsNeighboursInTheBatch(Broken):
    def energies(self, module: Any, inputs: Any) -> Any:
        energies = super().energies(module, inputs)
        return energies + 1e-3 * (len(energies) - 1)


class AddsE0sInItsOwnPrecision(Broken):
    def apply_normalisation(self, module: Any, constants: NormalisationConstants) -> None:
        module.e0s = torch.tensor(constants.atomic_energies, dtype=module.shifts.dtype)

    def predict(self, models: Any, samples: Any, *, stress: bool = False) -> Any:
        kept = [model.normalisation for model in models]
        for model in models:
            model.normalisation = NormalisationConstants((0.0,) * len(self.elements))
        found = super().predict(models, samples, stress=stress)
        for model, constants in zip(models, kept, strict=True):
            model.normalisation = constants
        for sample, one in zip(samples, found, strict=True):
            for place, model in enumerate(models):
                total = torch.tensor(one.energies[place], dtype=model.dtype)
                for element in np.asarray(sample.elements):
                    total += model.module.e0s[int(element)]
                one.energies[place] = float(total)
        return found


class ForgetsItsOptimizer(Broken):
    def trainable(self, seed: int | None) -> Any:
        made = super().trainable(seed)
        load = made.load_state

        def forgetful(state: dict[str, Any]) -> None:
            load(state)
            made.optimisation.restart(scheduler=False)

        made.load_state = forgetful  # type: ignore[method-assign]
        return made


class ExportsAnOldModel(Broken):
    def export(self, model: TorchInference, path: Any) -> None:
        super().export(self.inference(), path)


class DoesNotLearn(Broken):
    def optimizer_options(self, module: Any) -> Any:
        return {**super().optimizer_options(module), "lr": 0.0}


@pytest.mark.parametrize(
    ("kind", "dtype", "message"),
    [
        (DoesNotLearn, "float64", "training lowers the loss and moves the weights: no weight"),
        (ForcesOfAnotherFunction, "float64", r"minus the gradient.*HO.*atom 0, x: force.*expected"),
        (StressOfTheOtherSign, "float64", "derivative by strain .*component xx: stress"),
        (SeesTheAxes, "float64", "rotating everything rotates the forces: rotated: energies"),
        (KnowsItsNeighboursInTheBatch, "float64", "one by one: .* in a batch: energies differ"),
        (ForgetsItsOptimizer, "float64", "a state goes on bit for bit"),
        (ExportsAnOldModel, "float64", "an exported model predicts the same"),
        (AddsE0sInItsOwnPrecision, "float32", "all-electron energies keep|sum of the E0s"),
    ],
)
def test_a_broken_promise_is_named(kind: type, dtype: str, message: str) -> None:
    path = f"{__name__}:{kind.__name__}"
    with pytest.raises(conformance.BrokenPromise, match=message) as error:
        conformance.check(path, dtypes=[dtype])
    assert str(error.value).startswith(f"{path}, {dtype} on cpu: broken promise: ")


def test_what_is_no_backend_is_said_so() -> None:
    for name, message in (
        ("mave", "unknown. Did you mean mace"),
        ("numpy:array", "is no model backend: expected a class whose attribute architecture"),
        ("absent.module:Name", "absent.module:Name cannot be imported"),
    ):
        with pytest.raises(ValueError, match=message):
            conformance.check(name)
