"""MACE's own descriptors of atoms: the invariant part of its node features.

The same numbers as ``MACECalculator.get_descriptors``, but for a batch, and without a calculator.
"""

from __future__ import annotations

from typing import Any

import torch
from e3nn import o3
from mace.modules.utils import extract_invariant

from fhi_al.models.graphs import Tensors


def invariant_features(model: torch.nn.Module, inputs: Tensors) -> torch.Tensor:
    """Invariant node features of all layers for a batch, (n_atoms of all, n_features)."""
    mace: Any = model
    # Of its own: MACE replaces entries, and makes the positions ask for gradients.
    own = {**inputs, "positions": inputs["positions"].detach().clone()}
    output: Any = mace(own, training=False, compute_force=False)
    irreps = o3.Irreps(str(mace.products[0].linear.irreps_out))
    found: torch.Tensor = extract_invariant(
        output["node_feats"],
        num_layers=int(mace.num_interactions),
        num_features=irreps.dim // (irreps.lmax + 1) ** 2,
        l_max=irreps.lmax,
    )
    return found
