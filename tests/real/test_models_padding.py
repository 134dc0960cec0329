"""Padded batches give what the batches themselves give: predictions, losses, gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from models_parts import label, settings
from pair_potential import PairPotential

from fhi_al.core.label import Label
from fhi_al.models.cuda_graphs import MOST_RECORDINGS
from fhi_al.models.default_dtype import default_dtype
from fhi_al.models.interface import NormalisationConstants
from fhi_al.models.loss import PLAIN_LOSSES, EnergyForcesLoss, LossWeights
from fhi_al.models.mace.backend import MaceBackend
from fhi_al.models.padding import SHARES, BatchSizes, padded, rounded_up, without_padding
from fhi_al.models.torch_backend import TorchBackend
from fhi_al.settings.mace import MaceSettings
from fhi_al.settings.mace_choices import STRESS_LOSSES
from fhi_al.settings.model_backends import declaration

pytestmark = pytest.mark.real

ELEMENTS = (1, 8, 12)
WEIGHTS = LossWeights(energy=2.0, forces=30.0, stress=50.0, virials=7.0)
ROUNDING = 1e-11  # relative, float64: sums over thousands of products in another order


def labels() -> list[Label]:
    """Molecules, one of weight zero, an atom alone, a crystal with its stress."""
    random = np.random.default_rng(3)
    molecules = [molecule("H2O"), molecule("OH"), molecule("H2O"), molecule("H2O")[:1]]
    for atoms in molecules:
        atoms.rattle(0.05, rng=random)
    found = [label(a, random.normal(), random.normal(size=(len(a), 3))) for a in molecules]
    found[2] = replace(found[2], given_config_type="rare")
    crystal = bulk("MgO", "rocksalt", a=4.2)
    crystal.rattle(0.1, seed=1)
    stress = random.normal(size=(3, 3))
    large = 250 * random.normal(size=(2, 3))
    return [*found, label(crystal, -7.5, large, stress=stress + stress.T)]


def backend(kind: str, loss: str = "weighted") -> TorchBackend:
    """MACE or a pair potential in float64."""
    training: dict[str, Any] = {
        "loss": loss,
        "config_type_weights": {"Default": 0.7, "rare": 0.0},
    }
    stress = loss in STRESS_LOSSES
    if kind == "mace":
        return MaceBackend(settings(compute_stress=stress, max_L=1, **training), ELEMENTS)
    made = declaration("pair_potential:PairPotential")
    values = {
        "general": {"compute_stress": stress},
        "architecture": made.architecture.model_validate({"r_max": 4.0}),
        "training": training,
        "backend": made.name,
        "backend_class": made.backend,
    }
    return PairPotential(MaceSettings.model_validate(values), ELEMENTS)


def batch(of: TorchBackend, some: list[Label]) -> dict[str, torch.Tensor]:
    """What a training step sees."""
    samples = [of.label_sample(one) for one in some]
    return of.training_batch(samples, NormalisationConstants((0.0,) * len(ELEMENTS)))


@pytest.mark.parametrize("kind", ["mace", "pair"])
@pytest.mark.parametrize("chosen", [slice(None), slice(3, 4), slice(0, 1)])
def test_padded_batches_predict_the_same(kind: str, chosen: slice) -> None:
    made = backend(kind)
    module = made.module(5)
    tensors = batch(made, labels()[chosen])
    sizes = BatchSizes.of(tensors)
    whole = padded(tensors, sizes.padded(), made.r_max)
    assert BatchSizes.of(whole) == sizes.padded() != sizes
    with default_dtype(torch.float64):
        expected = made.outputs(module, tensors, training=False, stress=True)
        output = made.outputs(module, whole, training=False, stress=True)
    found = without_padding(output, sizes)
    for name in ("energy", "forces", "stress"):
        assert torch.isfinite(output[name]).all(), name
        assert found[name].shape == expected[name].shape, name
        torch.testing.assert_close(found[name], expected[name], rtol=ROUNDING, atol=1e-12)
    assert not output["forces"][sizes.n_atoms :].any()


@pytest.mark.parametrize("kind", ["mace", "pair"])
@pytest.mark.parametrize("loss", sorted(PLAIN_LOSSES | STRESS_LOSSES))
def test_padded_batches_have_the_same_loss_and_gradients(kind: str, loss: str) -> None:
    made = backend(kind, loss)
    module = made.module(5)
    tensors = batch(made, labels())
    parameters = [each for each in module.parameters() if each.requires_grad]

    def gradients(of: Any, inputs: dict[str, torch.Tensor], *shares: torch.Tensor) -> Any:
        with default_dtype(torch.float64):
            output = made.outputs(module, inputs, training=True, stress=loss in STRESS_LOSSES)
            value = of(output, inputs, *shares)
            return value, torch.autograd.grad(value, parameters, allow_unused=True)

    # Of MACE its own loss, which waits for the device: ours is to be the same.
    expected = gradients(made.loss(WEIGHTS), tensors)
    whole = padded(tensors, BatchSizes.of(tensors).padded(), made.r_max)
    ours = EnergyForcesLoss(loss, WEIGHTS)
    found = gradients(ours, whole, *(whole[name] for name in SHARES))
    torch.testing.assert_close(found[0], expected[0], rtol=ROUNDING, atol=0.0)
    for one, other in zip(found[1], expected[1], strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            size = float(other.abs().max())
            assert torch.isfinite(one).all()
            torch.testing.assert_close(one, other, rtol=0.0, atol=ROUNDING * max(size, 1.0))


def test_sizes_are_few_and_at_most_an_eighth_too_large() -> None:
    sizes = [rounded_up(number) for number in range(1, 100_000)]
    assert all(size - n <= n / 8 for n, size in enumerate(sizes, 1))
    assert sizes == sorted(sizes)
    assert len({size for size in sizes if 1024 < size <= 2048}) == 8
    # A batch of ethanol in MD: 45 atoms, 350 to 380 pairs.
    batches = {BatchSizes(5, 45, n_pairs).padded() for n_pairs in range(350, 381)}
    assert batches == {BatchSizes(6, 48, 352), BatchSizes(6, 48, 384)}


def test_batches_of_several_systems_are_of_no_more_sizes_than_are_recorded() -> None:
    """Else a size makes room for another before it is met again, and all steps are plain ones."""
    random = np.random.default_rng(1)
    n_atoms, n_pairs = np.array([[9, 72], [3, 6], [6, 30]]).T
    sizes = set()
    for _ in range(2000):
        chosen = random.integers(3, size=5)
        pairs = int(n_pairs[chosen].sum() + 2 * random.integers(-3, 4))
        sizes.add(BatchSizes(5, int(n_atoms[chosen].sum()), pairs).padded())
    assert 8 < len(sizes) <= MOST_RECORDINGS


def test_what_is_not_known_is_not_padded() -> None:
    made = backend("pair")
    tensors = {**batch(made, labels()), "charges": torch.zeros(9)}
    with pytest.raises(ValueError, match=r"cannot be padded: one of .*charges"):
        padded(tensors, BatchSizes.of(tensors).padded(), made.r_max)
