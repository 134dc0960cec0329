"""NVIDIA's cuEquivariance in place of e3nn in training and MD, by MACE's own conversions.

What is exported stays an ordinary MACE model.  The conversions are MACE's for training with
``--enable_cueq``; they rename and reshape weights, and compute the same function.
"""

from __future__ import annotations

from typing import Any

import torch

from fhi_al.models.default_dtype import default_dtype
from fhi_al.models.mace import quiet_mace

with quiet_mace():  # one of them prints when cuEquivariance is not there
    from mace.cli.convert_cueq_e3nn import run as to_e3nn
    from mace.cli.convert_e3nn_cueq import run as to_cuequivariance
    from mace.modules.wrapper_ops import CUET_AVAILABLE


def accelerated(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """The same model with cuEquivariance's operations.

    Raises
    ------
    ValueError
        If the package is not there.
    """
    if not CUET_AVAILABLE:
        raise ValueError(
            "mace_settings.yaml: MISC.enable_cueq: MACE cannot import cuequivariance_torch here. "
            "Expected it on every rank that trains: pip install cuequivariance-torch and the "
            "cuequivariance-ops-torch package of your CUDA version, or set enable_cueq: false."
        )
    return _converted(to_cuequivariance, model, device)


def is_accelerated(model: torch.nn.Module) -> bool:
    """Whether any part of a model is cuEquivariance's."""
    return any(
        kind.__module__.split(".")[0] == "cuequivariance_torch"
        for part in model.modules()
        for kind in type(part).__mro__
    )


def without_cuequivariance(model: torch.nn.Module) -> torch.nn.Module:
    """The same model with e3nn's operations."""
    return _converted(to_e3nn, model, torch.device("cpu")) if is_accelerated(model) else model


def _converted(convert: Any, model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    # The conversions set the process's default dtype.
    with quiet_mace(), default_dtype(next(model.parameters()).dtype):
        converted: torch.nn.Module = convert(model, device=device.type, return_model=True)
    return converted
