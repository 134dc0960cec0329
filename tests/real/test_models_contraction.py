"""MACE's symmetric contraction as polynomials: the same function and derivatives."""

from __future__ import annotations

from typing import Any

import pytest

# Before e3nn, which cannot read its own file without what MACE sets.
pytest.importorskip("mace")
torch = pytest.importorskip("torch")
pytestmark = pytest.mark.real


def test_one_switch_does_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np
    from models_parts import ELEMENTS, settings, water_labels

    from fhi_al.models.ensemble import Ensemble
    from fhi_al.models.mace import runtime_model
    from fhi_al.models.mace.contraction import PolynomialContraction

    labels = water_labels(2)
    forces = []
    for own in (True, False):
        monkeypatch.setattr(runtime_model, "OWN_CONTRACTION", own)
        made = Ensemble(settings(), ELEMENTS, (1,))
        kinds = {type(part) for part in made.members[0].model.module.modules()}
        assert (PolynomialContraction in kinds) is own
        assert any(kind.__module__ == "mace.modules.symmetric_contraction" for kind in kinds)
        forces.append(made.predict([labels[0]])[0].forces)
    np.testing.assert_allclose(*forces, atol=1e-12)  # eV/A, float64


@pytest.mark.parametrize("correlation", [1, 2, 3])
@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ("8x0e+8x1o", "8x0e"),
        ("4x0e+4x1o+4x2e", "4x0e+4x1o"),
        ("4x0e+4x1o+4x2e+4x3o", "4x0e+4x1o+4x2e"),
    ],
)
def test_values_and_derivatives_are_those_of_mace(
    inside: str, outside: str, correlation: int
) -> None:
    from e3nn import o3
    from mace.modules.symmetric_contraction import SymmetricContraction

    from fhi_al.models.default_dtype import default_dtype
    from fhi_al.models.mace.contraction import PolynomialContraction

    with default_dtype(torch.float64):
        torch.manual_seed(1)
        theirs = SymmetricContraction(
            irreps_in=o3.Irreps(inside),
            irreps_out=o3.Irreps(outside),
            correlation=correlation,
            num_elements=3,
        )
        ours = PolynomialContraction(theirs)
        n_channels = o3.Irreps(inside)[0].mul
        x = torch.randn(9, n_channels, o3.Irreps(inside).dim // n_channels)
        # One of the elements is not there.
        elements = torch.eye(3)[torch.tensor([2, 2, 0, 0, 2, 0, 2, 2, 0])]
        weights = [each for each in theirs.parameters() if each.requires_grad]
        upstream = torch.randn(9, n_channels * o3.Irreps(outside).dim // n_channels)

    def derived(module: Any) -> list[Any]:
        given = x.clone().requires_grad_(True)
        value = module(given, elements)
        (slope,) = torch.autograd.grad((value * upstream).sum(), given, create_graph=True)
        loss = (slope**2).sum() + value.sum()
        second = torch.autograd.grad(loss, [given, *weights], allow_unused=True)
        return [value, slope, *second]

    for wanted, found in zip(derived(theirs), derived(ours), strict=True):
        assert (wanted is None) == (found is None) or (found is not None and not found.any())
        if wanted is not None:
            torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
