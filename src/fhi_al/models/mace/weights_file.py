"""A MACE model as settings and numbers in one file: no pickle, nothing that runs when read.

Owns what stands in such a file: numpy's .npz of the settings as JSON and of the model's tensors by
name, floats in float32.  What MACE's constructor computes from the settings is not in it.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from e3nn import o3
from mace import modules
from mace.tools.scripts_utils import extract_config_mace_model

from fhi_al.models.default_dtype import default_dtype
from fhi_al.models.mace import quiet_mace
from fhi_al.models.mace.exports import MaceModel
from fhi_al.storage.atomic_file import write_atomically

SUFFIX = ".npz"
FORMAT, VERSION = "FHI_AL MACE weights", 1
SETTINGS = "settings"
# What MACE's constructor takes, by how JSON holds it.
_PLAIN = (
    *("r_max", "num_bessel", "num_polynomial_cutoff", "max_ell", "num_interactions"),
    *("num_elements", "avg_num_neighbors", "correlation", "radial_type", "radial_MLP"),
    *("pair_repulsion", "apply_cutoff", "use_reduced_cg", "use_so3", "use_agnostic_product"),
    *("use_last_readout_only", "use_embedding_readout", "use_edge_irreps_first"),
    *("distance_transform", "heads"),
)
_ARRAYS = ("atomic_numbers", "atomic_energies", "atomic_inter_scale", "atomic_inter_shift")
_IRREPS = ("hidden_irreps", "MLP_irreps", "edge_irreps")
_CLASSES = ("interaction_cls", "interaction_cls_first", "readout_cls")
# Parts of some models that the settings above do not describe.
_BEYOND = ("cueq_config", "embedding_specs")


def write_weights(model: MaceModel, path: Path) -> None:
    """Write a model; `path` is either the old file or the whole new one.

    Parameters
    ----------
    model
        As MACE builds and saves it.  Weights are rounded to float32; E0s, scale and shift are
        written as they are.
    path : Path

    Raises
    ------
    ValueError
        If settings and weights would not give the model back: it is of another class than
        ScaleShiftMACE, or has parts of other libraries or adapters.
    """
    settings = _settings_of(model)
    try:
        new = _built(settings).state_dict()
    except Exception as error:
        raise _cannot_be_written(f"{type(error).__name__}: {error}") from error
    found = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    different = sorted(
        name
        for name in found.keys() | new.keys()
        if name not in found or name not in new or found[name].shape != new[name].shape
    )
    if different:
        raise _cannot_be_written(f"{different[0]} is not what its settings say")
    parameters = {name for name, _ in model.named_parameters()}
    content = io.BytesIO()
    np.savez_compressed(
        content,
        allow_pickle=False,
        **{SETTINGS: np.array(json.dumps(settings))},
        **{
            name: _as_stored(tensor)
            for name, tensor in found.items()
            if tensor.numel() and (name in parameters or not _equal(tensor, new[name]))
        },
    )
    write_atomically(path, content.getvalue())


def read_weights(path: Path) -> MaceModel:
    """The model in a file of :func:`write_weights`, as MACE builds it, in float64 on the CPU.

    Nothing in the file is executed: it may come from anywhere.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it is none of :func:`write_weights`.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            settings = json.loads(str(arrays[SETTINGS]))
            tensors = {name: torch.from_numpy(arrays[name]) for name in arrays if name != SETTINGS}
        if settings.get("format") != FORMAT:
            raise ValueError("it does not say that it holds such weights")
        if settings["version"] != VERSION:
            raise ValueError(f"version {settings['version']} of the format, {VERSION} is known")
        model = _built(settings)
        _load(model, tensors)
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, TypeError, OSError, RuntimeError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: no weights of a MACE model ({type(error).__name__}: {error}). Expected a "
            f"{SUFFIX} file that FHI_AL wrote; a .model file of MACE's is read as such."
        ) from error
    return model


def _settings_of(model: MaceModel) -> dict[str, Any]:
    try:
        with quiet_mace():
            # Its own dictionary; it names attributes that not every model has.
            found: Mapping[str, Any] = extract_config_mace_model(model)
    except AttributeError as error:
        raise _cannot_be_written(str(error)) from error
    if type(model).__name__ != "ScaleShiftMACE" or "error" in found:
        raise _cannot_be_written(f"it is a {type(model).__name__}, not a ScaleShiftMACE")
    beyond = [name for name in _BEYOND if found[name] is not None]
    if beyond:
        raise _cannot_be_written(f"it has {beyond[0]}")
    gates = [name for name, gate in modules.gate_dict.items() if gate is found["gate"]]
    if not gates:
        raise _cannot_be_written(f"its gate is {found['gate']}")
    return {
        "format": FORMAT,
        "version": VERSION,
        **{name: found[name] for name in _PLAIN},
        **{name: np.asarray(found[name]).tolist() for name in _ARRAYS},
        **{name: None if found[name] is None else str(found[name]) for name in _IRREPS},
        **{name: found[name].__name__ for name in _CLASSES},
        "gate": gates[0],
    }


def _cannot_be_written(reason: str) -> ValueError:
    return ValueError(
        f"this model cannot be written as settings and weights: {reason}. Export it as MACE's own "
        ".model file."
    )


def _built(settings: Mapping[str, Any]) -> MaceModel:
    """A new model of these settings, in float64."""
    classes = {**modules.interaction_classes, **modules.readout_classes}
    arguments = {
        **{name: settings[name] for name in _PLAIN},
        **{name: np.asarray(settings[name]) for name in _ARRAYS},
        **{name: None if settings[name] is None else o3.Irreps(settings[name]) for name in _IRREPS},
        **{name: classes[settings[name]] for name in _CLASSES},
        "gate": modules.gate_dict[settings["gate"]],
        "atomic_numbers": [int(number) for number in settings["atomic_numbers"]],
    }
    with quiet_mace(), default_dtype(torch.float64), torch.random.fork_rng(devices=[]):
        return modules.ScaleShiftMACE(**arguments)


def _load(model: MaceModel, tensors: Mapping[str, torch.Tensor]) -> None:
    state = model.state_dict()
    missing = {name for name, each in model.named_parameters() if each.numel()} - tensors.keys()
    unknown = tensors.keys() - state.keys()
    if missing or unknown:
        name = min(missing or unknown)
        raise ValueError(f"{name} is {'missing' if missing else 'unknown'}")
    for name, tensor in tensors.items():
        if tensor.shape != state[name].shape:
            raise ValueError(
                f"{name} is {tuple(tensor.shape)}, expected {tuple(state[name].shape)}"
            )
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} is not finite")
    # Values are cast to the precision of the model.
    model.load_state_dict({**state, **tensors})


def _as_stored(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _equal(mine: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.equal(mine.double(), other.double())
