"""Models that start from a foundation model: how members differ, what of them is trained.

By MACE's own functions, but for what makes members differ.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Mapping
from typing import Any

import torch
from mace.modules.lora import (
    LoRADenseLinear,
    LoRAFCLayer,
    LoRAO3Linear,
    inject_LoRAs,
)
from mace.tools.scripts_utils import get_params_options

from fhi_al.models.mace import quiet_mace
from fhi_al.models.mace.exports import MaceModel

ADAPTERS = (LoRAO3Linear, LoRADenseLinear, LoRAFCLayer)


def vary_readouts(model: MaceModel, how: str, noise: float) -> None:
    """Let the readouts differ from those of the foundation model, by torch's random numbers.

    Parameters
    ----------
    model
        Changed in place.
    how : {"kept", "perturbed", "reinitialised"}
    noise : float
        Standard deviation of a perturbation, in units of the rms of a layer's weights; drawn anew,
        weights have the rms that they had.
    """
    if how == "kept":
        return
    with torch.no_grad():
        for weights in model.readouts.parameters():
            if weights.numel() == 0:
                continue
            scale = weights.square().mean().sqrt()
            drawn = torch.randn_like(weights) * scale
            weights.copy_(drawn if how == "reinitialised" else weights + noise * drawn)


def freeze(module: torch.nn.Module, arguments: argparse.Namespace) -> None:
    """Take gradients of what the optimizer moves only, above ``arguments.freeze`` by MACE's levels.

    MACE's way of taking weights over lets the radial basis, too, take gradients.  No optimizer
    moves it or sets them to zero: they would add up, and with them the norm that is clipped.
    """
    with quiet_mace():
        groups = get_params_options(arguments, module)["params"]
    moved = {id(parameter) for group in groups for parameter in group["params"]}
    for parameter in module.parameters():
        if id(parameter) not in moved:
            parameter.requires_grad_(False)


def with_adapters(module: torch.nn.Module, rank: int, alpha: float) -> torch.nn.Module:
    """The module with adapters that are trained, on layers that are not (LoRA).

    Their random weights are drawn from torch's random numbers; at first they change nothing.
    """
    inject: Any = inject_LoRAs
    found: torch.nn.Module = inject(module, rank=rank, alpha=alpha)
    return found


def has_adapters(module: torch.nn.Module) -> bool:
    """Whether :func:`with_adapters` made the module."""
    return any(isinstance(each, ADAPTERS) for each in module.modules())


class Merging:
    """Weights of layers with adapters as those of plain layers that compute the same.

    Parameters
    ----------
    module
        With adapters; not changed.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        with quiet_mace():
            self._twin = copy.deepcopy(module)
        self._tensors = dict(self._twin.state_dict())
        self._adapted = {
            f"{name}.": each
            for name, each in self._twin.named_modules()
            if isinstance(each, ADAPTERS)
        }

    def merged(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """By the names that they have in a module without adapters."""
        found: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            for name, tensor in tensors.items():
                self._tensors[name].copy_(tensor)
            for name, tensor in tensors.items():
                layer, rest = self._parts(name)
                if layer is None:
                    found[name] = tensor
                elif rest.startswith("base."):
                    plain = rest.removeprefix("base.")
                    value = _weight(self._adapted[layer]) if plain == "weight" else tensor
                    found[layer + plain] = value
        return found

    def split(self, plain: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The reverse for adapters that change nothing: those of the module as it was given."""
        found = {}
        for name, tensor in self._tensors.items():
            layer, rest = self._parts(name)
            if layer is None:
                found[name] = plain[name]
            elif rest.startswith("base."):
                found[name] = plain[layer + rest.removeprefix("base.")]
            else:
                found[name] = torch.zeros_like(tensor) if "lora_B" in rest else tensor
        return found

    def _parts(self, name: str) -> tuple[str | None, str]:
        """The layer with an adapter that a tensor is of, if any, and its name there."""
        for layer in self._adapted:
            if name.startswith(layer):
                return layer, name.removeprefix(layer)
        return None, name


def _weight(layer: Any) -> torch.Tensor:
    if isinstance(layer, LoRAO3Linear):
        return layer.compute_merged_weight()
    weight: torch.Tensor = layer.base.weight + layer.scaling * layer.compute_delta()
    return weight
