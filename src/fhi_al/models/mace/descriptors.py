"""MACE's own descriptors of atoms: the invariant part of its node features.

The same numbers as ``MACECalculator.get_descriptors``, but for a batch, and without a calculator.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from e3nn import o3
from mace.modules.utils import extract_invariant

from fhi_al.core.structure import Array
from fhi_al.models.mace import default_dtype


def invariant_features(
    model: torch.nn.Module, inputs: dict[str, torch.Tensor], dtype: torch.dtype
) -> Array:
    """Invariant node features of all layers for a batch of :func:`~.prediction.model_input`.

    Returns
    -------
    (n_atoms of all, n_features)
    """
    mace: Any = model
    with default_dtype(dtype), torch.no_grad():
        # Of its own: MACE replaces entries, and makes the positions ask for gradients.
        own = {**inputs, "positions": inputs["positions"].detach().clone()}
        output: Any = mace(own, training=False, compute_force=False)
    irreps = o3.Irreps(str(mace.products[0].linear.irreps_out))
    found: Any = extract_invariant(
        output["node_feats"],
        num_layers=int(mace.num_interactions),
        num_features=irreps.dim // (irreps.lmax + 1) ** 2,
        l_max=irreps.lmax,
    )
    features: Array = found.detach().cpu().numpy().astype(np.float64)
    return features
