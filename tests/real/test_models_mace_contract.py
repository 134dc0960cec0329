"""What FHI_AL takes from mace-torch is there, in every version of the window that is installed."""

from __future__ import annotations

import inspect

import pytest
from models_parts import settings

from fhi_al.models import mace
from fhi_al.models.mace import backend, foundations, loss, new_model, normalisation

pytestmark = pytest.mark.real


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (normalisation.compute_avg_num_neighbors, ["data_loader"]),
        (normalisation.scaling_classes["std_scaling"], ["data_loader", "atomic_energies"]),
        (loss.get_loss_fn, ["args", "dipole_only", "compute_dipole"]),
        (backend.get_params_options, ["args", "model"]),
        (backend.get_neighborhood, ["positions", "cutoff", "pbc", "cell"]),
        (
            new_model.configure_model,
            ["args", "train_loader", "atomic_energies", "model_foundation", "heads", "z_table"],
        ),
        (foundations.mace_mp, ["model", "device", "default_dtype"]),
        (foundations.MACECalculator.__init__, ["models", "device", "default_dtype"]),
    ],
)
def test_mace_still_takes_the_arguments_that_are_passed(function, parameters) -> None:
    assert set(parameters) <= set(inspect.signature(function).parameters)


@pytest.mark.parametrize("version", ["0.3.13", "0.3.4", "1.0.0", "1.2"])
def test_untested_mace_is_refused(version: str) -> None:
    with pytest.raises(ImportError, match="FHI_AL is tested with"):
        mace._check_version(version)


def test_tested_mace_is_taken() -> None:
    for version in ("0.3.16", "0.3.17", "0.4.0", mace.MACE_VERSION):
        mace._check_version(version)


@pytest.mark.parametrize("amsgrad", [True, False])
def test_amsgrad_reaches_the_optimizer(amsgrad) -> None:
    made = backend.MaceBackend(settings(amsgrad=amsgrad), (1, 8))
    optimizer = made.trainable(seed=1).optimisation.optimizer
    assert {group["amsgrad"] for group in optimizer.param_groups} == {amsgrad}
