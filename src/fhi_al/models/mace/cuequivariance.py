"""A MACE model with NVIDIA's cuEquivariance in place of e3nn, which computes with others' weights.

What is trained, saved and exported is an ordinary MACE model, in its own layout; the conversion is
MACE's, for training with ``--enable_cueq``.  Knows nothing of when this is worth it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any

import torch
from mace.modules.symmetric_contraction import SymmetricContraction

from fhi_al.models.default_dtype import default_dtype
from fhi_al.models.devices import CUEQUIVARIANCE_ON_A_GPU
from fhi_al.models.graphs import Tensors
from fhi_al.models.mace import quiet_mace

with quiet_mace():  # it prints when cuEquivariance is not there
    from mace.cli.convert_e3nn_cueq import run as to_cuequivariance
    from mace.modules.wrapper_ops import CUET_AVAILABLE

# What a model has besides its weights that is not the same for all of one architecture.
_NORMALISATION = (
    "scale_shift.scale",
    "scale_shift.shift",
    "atomic_energies_fn.atomic_energies",
)


class CuequivarianceTwin:
    """Computes what any MACE model of one architecture computes, with that model's weights.

    Its weights follow from the model's in every call, so that gradients go to the model's own:
    optimizer, moving average, states and files are those of an ordinary model.

    MACE's conversion gives modules that must neither be copied nor change their precision:
    ``copy.deepcopy`` of a converted model loses the forward methods that MACE has put on some of
    them, and makes their constants anew on the CPU.

    Parameters
    ----------
    build : callable
        () -> a new model of the architecture as MACE builds it, on the CPU.
    dtype : torch.dtype
        Of the models.
    device : torch.device
        Where they are.

    Raises
    ------
    ImportError
        On a GPU, if the kernels are installed and cannot be imported.
    """

    def __init__(
        self, build: Callable[[], torch.nn.Module], dtype: torch.dtype, device: torch.device
    ) -> None:
        self._device = device
        import_kernels(device)
        source = build().to(dtype)
        # Names of the source's weights that each contraction's weight is made of.
        self._contractions = {
            f"{name}.weight": [f"{name}.{own}" for own, _ in part.named_parameters()]
            for name, part in source.named_modules()
            if isinstance(part, SymmetricContraction)
        }
        # Not a submodule of any model: state dicts must not know it.
        self.model, maps = self._converted(source)
        self._maps = {name: one.to(device) for name, one in maps.items()}
        self._shapes = {name: one.shape for name, one in self.model.named_parameters()}

    def __call__(self, module: Any, inputs: Tensors, **options: Any) -> Tensors:
        """What ``module(inputs, **options)`` gives.

        Parameters
        ----------
        module
            In the form that is run; its weights and constants are used.
        inputs, **options
            Of MACE's forward method.
        """
        model: Any = self.model
        for own, theirs in zip(model.interactions, module.interactions, strict=True):
            own.avg_num_neighbors = theirs.avg_num_neighbors  # a plain attribute
        with self._on_the_device():
            found: Tensors = torch.func.functional_call(
                model, self._weights(module), (inputs,), options
            )
        return found

    def _weights(self, module: torch.nn.Module) -> Tensors:
        """A model's weights and constants under the names and in the shapes of the twin's."""
        given = dict(module.named_parameters())
        buffers = dict(module.named_buffers())
        weights = {name: buffers[name] for name in _NORMALISATION if name in buffers}
        for name, shape in self._shapes.items():
            if name in self._contractions:
                paths = torch.cat([given[each] for each in self._contractions[name]], 1)
                weights[name] = torch.einsum("zau,ab->zbu", paths, self._maps[name])
            else:
                weights[name] = given[name].view(shape)
        return weights

    def _converted(self, source: torch.nn.Module) -> tuple[torch.nn.Module, Tensors]:
        """The converted model; how the weights of its contractions follow from the source's.

        Each is a linear combination of the source's of the same element and channel.  Which, is
        read off a conversion of weights of which one path is 1, another one for each element and
        channel; mostly there are more of these than paths, and one conversion is enough.

        Returns
        -------
        model
        maps : dict
            By the name of the weight, (n_paths of the source, n_paths).
        """
        sources = {
            name: [source.get_parameter(each) for each in own]
            for name, own in self._contractions.items()
        }
        n_paths = {name: sum(one.shape[1] for one in own) for name, own in sources.items()}
        # All of (n_elements, n_paths, n_channels).
        at_once = min(own[0].shape[0] * own[0].shape[2] for own in sources.values())
        rows: dict[str, list[torch.Tensor]] = {name: [] for name in sources}
        for begin in range(0, max(n_paths.values()), at_once):
            for own in sources.values():
                _mark_paths(own, range(begin, begin + at_once))
            model = self._conversion(source)
            for name, found in rows.items():
                weight = model.get_parameter(name).transpose(1, 2).flatten(0, 1)
                found.append(weight[:at_once].clone())
        return model, {name: torch.cat(found)[: n_paths[name]] for name, found in rows.items()}

    def _conversion(self, source: torch.nn.Module) -> torch.nn.Module:
        # It sets the process's default dtype, and knows a kind of device, not which of several.
        dtype = next(source.parameters()).dtype
        with quiet_mace(), default_dtype(dtype), self._on_the_device():
            converted: Any = to_cuequivariance(
                copy.deepcopy(source), device=self._device.type, return_model=True
            )
        model: torch.nn.Module = converted.to(self._device)
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        return model

    def _on_the_device(self) -> AbstractContextManager[Any]:
        if self._device.type != "cuda":
            return nullcontext()
        return torch.cuda.device(self._device)


def _mark_paths(weights: Sequence[torch.nn.Parameter], paths: range) -> None:
    """Let each of these paths, counted through all weights, be 1 for an element and channel."""
    first = 0
    for weight in weights:
        n_paths, n_channels = weight.shape[1:]
        with torch.no_grad():
            weight.zero_()
            for k, path in enumerate(paths):
                if first <= path < first + n_paths:
                    weight[k // n_channels, path - first, k % n_channels] = 1.0
        first += n_paths


def import_kernels(device: torch.device) -> None:
    """Raise what keeps a GPU's kernels from being imported: a package that they need, or a library.

    cuEquivariance says nothing of it and computes without them, which MACE's conversion does not
    expect.
    """
    if device.type == "cuda":
        import_module(CUEQUIVARIANCE_ON_A_GPU)


def required() -> None:
    """Raise ValueError if MACE cannot use cuEquivariance in this process."""
    if not CUET_AVAILABLE:
        raise ValueError(
            "mace_settings.yaml: MISC.enable_cueq: MACE cannot import cuequivariance_torch here. "
            "Expected it on every rank that trains: pip install cuequivariance-torch and the "
            "cuequivariance-ops-torch package of your CUDA version, or set enable_cueq: auto."
        )
