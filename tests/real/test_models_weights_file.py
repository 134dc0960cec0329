"""MACE models as settings and numbers, and the small foundation model that is kept so."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from foundation.small_foundation import SmallFoundation
from mace.calculators import MACECalculator

from fhi_al.labels.labelled_frames import read_labels
from fhi_al.models.interface import NormalisationConstants
from fhi_al.models.mace.backend import MaceBackend
from fhi_al.models.mace.exports import read_exported
from fhi_al.models.mace.runtime_model import to_mace_model
from fhi_al.models.mace.weights_file import read_weights, write_weights
from fhi_al.settings.mace import MaceSettings

pytestmark = pytest.mark.real

ELEMENTS = (1, 6, 8)
# All-electron energies, of which float32 keeps three decimals.
ENERGIES = (-13.587222780835477, -1036.3456190473812, -2043.2113749523457)


def mace_model(architecture: dict[str, Any], dtype: str = "float64") -> Any:
    """As MACE saves it, with initial weights and constants that are no round numbers."""
    settings = MaceSettings.model_validate(
        {
            "GENERAL": {"default_dtype": dtype},
            "ARCHITECTURE": {"num_channels": 4, "MLP_irreps": "4x0e"} | architecture,
        }
    )
    backend = MaceBackend(settings, ELEMENTS)
    module = backend.module(seed=3)
    constants = NormalisationConstants(ENERGIES, 1.2345678901, -0.123456789, 11.3)
    backend.apply_normalisation(module, constants)
    return to_mace_model(module, ENERGIES)


@pytest.fixture(scope="module")
def model() -> Any:
    """One that is built fast."""
    return mace_model(
        {"max_L": 1, "max_ell": 1, "correlation": 2, "num_interactions": 1}, "float32"
    )


def energy_and_forces(model: Any, atoms: Atoms) -> tuple[float, Any]:
    """In float64, by MACE's own calculator."""
    atoms.calc = MACECalculator(models=[model], device="cpu", default_dtype="float64")
    return atoms.get_potential_energy(), atoms.get_forces()


@pytest.mark.parametrize(
    "architecture",
    [
        {"model": "ScaleShiftMACE", "max_L": 0, "max_ell": 2, "gate": "None"},
        {"model": "MACE", "num_interactions": 3, "max_L": 1, "max_ell": 1, "gate": "tanh"},
    ],
)
def test_what_is_read_predicts_as_what_was_written(
    architecture: dict[str, Any], tmp_path: Path
) -> None:
    model, path = mace_model(architecture), tmp_path / "weights.npz"
    write_weights(model, path)
    found = read_weights(path)
    assert {tensor.dtype for tensor in found.parameters()} == {torch.float64}
    with np.load(path) as arrays:
        # What MACE computes itself would be 2.5 MB with max_L 1.
        names = {name for name in arrays if name != "settings"}
    assert names <= {name for name, _ in model.named_parameters()}
    diamond = bulk("C", cubic=True)
    diamond.rattle(0.05, seed=1)
    for atoms in (molecule("CH3CH2OH"), diamond):
        energy, forces = energy_and_forces(model, atoms)
        energy_found, forces_found = energy_and_forces(found, atoms)
        # Weights are float32: 6e-8 each.  The E0s are not, or this would be 1e-3 eV off.
        assert energy_found == pytest.approx(energy, abs=1e-6 * len(atoms))
        assert np.abs(forces_found - forces).max() < 1e-6 * np.abs(forces).max()


def test_weights_in_float32_are_kept_as_they_are(model: Any, tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    write_weights(model, path)
    found = read_weights(path).state_dict()
    assert found.keys() == model.state_dict().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in model.state_dict().items())


def test_a_model_that_settings_do_not_describe_is_not_written(model: Any, tmp_path: Path) -> None:
    model = copy.deepcopy(model)
    model.register_parameter("adapter", torch.nn.Parameter(torch.ones(2)))
    with pytest.raises(
        ValueError, match=r"cannot be written .* adapter is not what .* \.model file"
    ):
        write_weights(model, tmp_path / "weights.npz")
    with pytest.raises(ValueError, match=r"it is a Linear, not a ScaleShiftMACE"):
        write_weights(torch.nn.Linear(1, 1), tmp_path / "weights.npz")
    assert not list(tmp_path.iterdir())


def test_what_is_no_such_file_is_refused(model: Any, tmp_path: Path) -> None:
    path, good = tmp_path / "weights.npz", tmp_path / "good.npz"
    write_weights(model, good)
    with np.load(good) as arrays:
        tensors = dict(arrays)
    settings = json.loads(str(tensors.pop("settings")))
    first = min(tensors)

    def refused(reason: str) -> None:
        with pytest.raises(
            ValueError, match=rf"weights\.npz: no weights of a MACE model .*{reason}"
        ):
            read_weights(path)

    def written(changed: dict[str, Any], **arrays: Any) -> None:
        np.savez(path, settings=np.array(json.dumps(settings | changed)), **arrays)

    path.write_text("ITEM: TIMESTEP")
    refused("Expected a .npz file that FHI_AL wrote")
    torch.save(model, path)
    refused("Expected a .npz file that FHI_AL wrote")
    path.write_bytes(good.read_bytes()[:-1000])
    refused("")
    np.savez(path, positions=np.zeros(3))
    refused("settings")
    np.savez(path, settings=np.array([{"format": print}], dtype=object))
    refused("allow_pickle")
    written({"format": "other"}, **tensors)
    refused("does not say")
    written({"version": 2}, **tensors)
    refused("version 2 of the format, 1 is known")
    written({"readout_cls": "system"}, **tensors)
    refused("system")
    written({}, **{name: tensors[name] for name in tensors if name != first})
    refused(f"{first} is missing")
    written({}, **tensors, more=np.zeros(1))
    refused("more is unknown")
    written({}, **tensors | {first: np.zeros(1)})
    refused(f"{first} is")
    written({}, **tensors | {first: np.full_like(tensors[first], np.nan)})
    refused(f"{first} is not finite")
    with pytest.raises(FileNotFoundError):
        read_weights(tmp_path / "none.npz")


def test_the_small_foundation_model_knows_its_molecules(
    small_foundation: SmallFoundation, record_property: Any
) -> None:
    assert small_foundation.weights.stat().st_size < 1_000_000
    model = read_exported(small_foundation.model)
    assert model.atomic_numbers.tolist() == [1, 6, 7, 8, 14]
    calculator = MACECalculator(models=[model], device="cpu", default_dtype="float64")
    forces, energies = [], []
    for label in read_labels(small_foundation.known_structures):
        atoms = Atoms(label.numbers, label.positions, cell=label.cell, pbc=label.pbc)
        atoms.calc = calculator
        forces.append(np.abs(atoms.get_forces() - label.forces).ravel())
        energies.append(abs(atoms.get_potential_energy() - label.energy) / len(atoms))
        # Neither what the benchmarks fine-tune to, nor the combination that it has not seen.
        assert not {7, 8} <= set(label.numbers.tolist())
    mae, of_energies = float(np.mean(np.concatenate(forces))), float(np.mean(energies))
    record_property("measured", f"{1000 * mae:.0f} meV/A, {1000 * of_energies:.1f} meV/atom")
    assert mae < 0.09  # eV/A, of the 1.1 eV/A that forces are in the mean
    assert of_energies < 0.03  # eV/atom
