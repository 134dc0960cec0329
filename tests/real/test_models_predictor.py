"""Predictions in batches: MACE's own input, mixed structures, splitting, precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from mace.data import AtomicData, Configuration
from mace.tools import torch_geometric
from models_parts import fitted, water_labels

from fhi_al.models.default_dtype import default_dtype
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.out_of_memory import TooLarge
from fhi_al.models.training import whole_epoch

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def trained() -> Ensemble:
    made = fitted(water_labels(12))
    for member in made.members:
        whole_epoch(member)
    return made


def mixed() -> list[Atoms]:
    """Structures of 3, 24, 2 and 3 atoms, with and without a cell."""
    generator = np.random.default_rng(3)
    ice = molecule("H2O", cell=(3.2, 3.3, 3.4), pbc=True) * (2, 2, 2)
    made = [molecule("H2O"), ice, molecule("OH"), molecule("H2O")]
    for atoms in made:
        atoms.positions += generator.normal(0, 0.05, atoms.positions.shape)
    return made


def test_the_input_of_a_batch_is_maces_own(trained: Ensemble) -> None:
    backend = trained.backend
    with default_dtype(torch.float64):
        graphs = [
            AtomicData.from_config(
                Configuration(a.numbers, a.positions, {}, {}, cell=np.array(a.cell), pbc=a.pbc),
                z_table=backend.table,
                cutoff=backend.r_max,
            )
            for a in mixed()
        ]
    collate: Any = torch_geometric.Batch.from_data_list
    expected = collate(graphs).to_dict()
    found = backend.inputs([backend.sample(atoms) for atoms in mixed()], torch.float64)
    assert len(found["ptr"]) == 5
    for name, tensor in found.items():
        assert tensor.dtype == expected[name].dtype, name
        assert torch.equal(tensor, expected[name]), name


def test_together_they_are_predicted_as_alone(trained: Ensemble) -> None:
    away = molecule("H2O")
    away.positions[0] += 1e4
    structures = [*mixed(), away]
    together = trained.predict(structures)
    for atoms, found in zip(structures[:-1], together[:-1], strict=True):
        (alone,) = trained.predict([atoms])
        assert found.forces.shape == (2, len(atoms), 3)
        np.testing.assert_allclose(found.forces, alone.forces, rtol=0, atol=1e-12)  # eV/A
        np.testing.assert_allclose(found.energies, alone.energies, rtol=1e-14)
    assert np.isnan(together[-1].forces).all() and together[-1].forces.shape == (2, 3, 3)
    one = trained.predict(structures, [1])
    for found, all_members in zip(one[:-1], together[:-1], strict=True):
        assert np.array_equal(found.forces[0], all_members.forces[1])
    assert trained.predict([]) == []


@pytest.fixture
def sizes(trained: Ensemble, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of structures in every call of member 0's model from here on."""
    seen: list[int] = []
    model = trained.members[0].inference_model.module
    real = model.forward

    def counting(data: dict[str, torch.Tensor], **options: Any) -> Any:
        seen.append(len(data["ptr"]) - 1)
        return real(data, **options)

    monkeypatch.setattr(model, "forward", counting)
    return seen


def test_batches_keep_to_their_bound(
    trained: Ensemble, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained.predict(mixed(), [0])
    monkeypatch.setattr(trained.backend, "most_pairs", 12)  # a molecule of water has 6
    split = trained.predict(mixed(), [0])
    assert sizes == [4, 1, 1, 2]  # the crystal is larger than the bound, alone
    for one, other in zip(whole, split, strict=True):
        np.testing.assert_allclose(one.forces, other.forces, rtol=0, atol=1e-12)


def test_a_batch_too_large_for_the_memory_is_halved(
    trained: Ensemble, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained.predict(mixed(), [0])
    model = trained.members[0].inference_model.module
    real = model.forward
    room = 1

    def small(data: dict[str, torch.Tensor], **options: Any) -> Any:
        found = real(data, **options)
        if len(data["ptr"]) - 1 > room:
            raise torch.OutOfMemoryError("no room for this")
        return found

    monkeypatch.setattr(model, "forward", small)
    sizes.clear()
    halved = trained.predict(mixed(), [0])
    assert sizes == [4, 2, 1, 1, 2, 1, 1]
    for one, other in zip(whole, halved, strict=True):
        np.testing.assert_allclose(one.forces, other.forces, rtol=0, atol=1e-12)
    room = 0
    with pytest.raises(TooLarge, match=r"one structure alone.*Expected.*mace_settings\.yaml"):
        trained.predict(mixed(), [0])


def test_float32_is_near_and_follows_the_weights() -> None:
    made = fitted(water_labels(12))
    single = made.predictor("float32")
    seen = []
    for _ in range(2):
        for exact, rounded in zip(made.predict(mixed()), single.predict(mixed()), strict=True):
            error = np.abs(exact.forces - rounded.forces).max()
            assert 0 < error < 1e-4  # eV/A; 7 digits
            seen.append(rounded.forces)
        whole_epoch(made.members[1])
    assert np.array_equal(seen[0][0], seen[4][0])
    assert not np.array_equal(seen[0][1], seen[4][1])
    assert made.members[0].model.module.node_embedding.linear.weight.dtype == torch.float64
