"""A foundation model that members start from: how it is found, and what it is.

Owns what is refused of it.  Trains nothing.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from mace.calculators import MACECalculator
from mace.tools.scripts_utils import extract_config_mace_model, remove_pt_head

from fhi_al.models.default_dtype import default_dtype
from fhi_al.models.interface import NormalisationConstants
from fhi_al.models.mace import quiet_mace
from fhi_al.models.mace.exports import MaceModel, normalisation_of, read_exported
from fhi_al.models.mace.menu import menu
from fhi_al.models.mace.weights_file import SUFFIX, read_weights

KIND = "ScaleShiftMACE"
# Settings keys of ARCHITECTURE -> names in MACE's description of a model.
_PLAIN = {
    "r_max": "r_max",
    "max_ell": "max_ell",
    "radial_type": "radial_type",
    "num_radial_basis": "num_bessel",
    "num_cutoff_basis": "num_polynomial_cutoff",
    "num_interactions": "num_interactions",
    "correlation": "correlation",
}


@dataclass(frozen=True, eq=False)
class Foundation:
    """A foundation model of one head, on the CPU and in float64.

    Parameters
    ----------
    name : str
        As the user gave it.
    model
        As MACE saves it.
    """

    name: str
    model: MaceModel

    @cached_property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that it knows, sorted."""
        return tuple(int(number) for number in self.model.atomic_numbers)

    @cached_property
    def constants(self) -> NormalisationConstants:
        """Its E0s, scale, shift and average number of neighbours."""
        return normalisation_of(self.model)

    def copied_model(self) -> MaceModel:
        """The model for somebody who changes it: the file is read once in a process."""
        with quiet_mace():
            return copy.deepcopy(self.model)

    @cached_property
    def digest(self) -> str:
        """Differs if a weight differs."""
        found = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            found.update(name.encode())
            found.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).tobytes())
        return found.hexdigest()[:16]

    @cached_property
    def architecture(self) -> dict[str, Any]:
        """Values of the keys of ARCHITECTURE that describe its network."""
        with quiet_mace():
            config = extract_config_mace_model(self.model)
        hidden = config["hidden_irreps"]
        last_readout = {
            "MLP_irreps": str(config["MLP_irreps"]),
            "gate": getattr(config["gate"], "__name__", "None"),
        }
        return {
            **{key: _plain(config[name]) for key, name in _PLAIN.items()},
            "model": KIND,
            "num_channels": int(hidden[0].mul),
            "max_L": int(hidden.lmax),
            "interaction": config["interaction_cls"].__name__,
            "interaction_first": config["interaction_cls_first"].__name__,
            "radial_MLP": [int(width) for width in config["radial_MLP"]],
            # Of a model of a single layer the only readout is linear.
            **(last_readout if hasattr(self.model.readouts[-1], "hidden_irreps") else {}),
        }

    def missing(self, elements: Sequence[int]) -> list[str]:
        """Symbols of elements that it does not know."""
        return [chemical_symbols[z] for z in elements if z not in self.elements]

    def lacks(self, missing: Sequence[str]) -> str:
        """What is said of elements that it does not know."""
        known = ", ".join(chemical_symbols[z] for z in self.elements)
        return (
            f"{self.name}: does not know {', '.join(missing)}, which the systems have: it knows"
            f" {known}. Use another foundation model, or none"
        )


def calculator(found: Foundation, device: str, dtype: str) -> MACECalculator:
    """A foundation model as ASE's calculator."""
    model = found.copied_model()
    with quiet_mace():
        return MACECalculator(models=[model], device=device, default_dtype=dtype)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def foundation(given: str, head: str | None = None) -> Foundation:
    """The foundation model of a name or a file; read once in a process.

    Parameters
    ----------
    given : str
        A name of :func:`fhi_al.models.mace.menu.menu`, fetched if need be, or an absolute path.
    head : str, optional
        Of a model that has several.

    Raises
    ------
    ValueError
        If it cannot be had or used; says what was expected and how to fix it.
    """
    path = menu()[given].fetched() if given in menu() else Path(given)
    if not path.is_file():
        raise ValueError(
            f"{path}: no such file. Expected a MACE model, a file of weights, or one of MACE's own"
            f" names: {', '.join(menu())}"
        )
    stat = path.stat()
    return _read(given, path, stat.st_mtime_ns, stat.st_size, head)


def foundation_of(settings: Any, elements: Sequence[int]) -> Foundation | None:
    """What the members of these settings start from; None without a foundation model.

    Raises
    ------
    ValueError
        As :func:`foundation`, and if it does not know an element of the run.
    """
    architecture = settings.architecture
    if architecture.foundation_model is None:
        return None
    found = foundation(architecture.foundation_model, architecture.foundation_head)
    missing = found.missing(elements)
    if missing:
        raise ValueError(found.lacks(missing))
    return found


@lru_cache(maxsize=2)
def _read(given: str, path: Path, _time: int, _size: int, head: str | None) -> Foundation:
    model = read_weights(path) if path.suffix == SUFFIX else read_exported(path)
    kind = type(model).__name__
    if kind != KIND:
        raise ValueError(
            f"{path}: is a {kind}, which cannot be used here: expected a {KIND}, as MACE's"
            " foundation models are"
        )
    with quiet_mace():
        model = model.to("cpu").double()
    return Foundation(given, _one_head(path, model, head))


def _one_head(path: Path, model: MaceModel, head: str | None) -> torch.nn.Module:
    heads = list(getattr(model, "heads", ["Default"]))
    several = ", ".join(heads)
    if head is not None and head not in heads:
        raise ValueError(f"{path}: has no head {head}: expected one of {several}")
    if len(heads) == 1:
        one: torch.nn.Module = model
        return one
    if head is None:
        raise ValueError(
            f"{path}: has several heads, {several}, each trained on another method. Choose the one"
            " nearest to yours (ARCHITECTURE.foundation_head; --head of FHI_AL-evaluate)"
        )
    with quiet_mace(), default_dtype(torch.float64):
        found: torch.nn.Module = remove_pt_head(model, head)
    return found
