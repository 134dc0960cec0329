"""Models as files of MACE's own, written and read."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from e3nn.util import jit
from mace.tools.scripts_utils import convert_to_json_format, extract_config_mace_model

from fhi_al.models.default_dtype import default_dtype
from fhi_al.models.interface import NormalisationConstants
from fhi_al.models.mace import quiet_mace
from fhi_al.models.mace.runtime_model import to_mace_model
from fhi_al.storage.atomic_file import write_atomically

# A torch module with MACE's attributes, for which MACE gives no types.
MaceModel = Any


def export_model(
    model: torch.nn.Module, head: str, atomic_energies: Sequence[float], path: Path
) -> None:
    """Write a model as MACE writes its own, for MACE's calculator on any device.

    Atomic: `path` is either the old file or the whole new one.

    Parameters
    ----------
    model
        In the form that is run.
    head : str
        Which of its heads; the file has no other.
    atomic_energies : (n_elements,)
        Its E0s in eV.
    path : Path
    """
    content = io.BytesIO()
    with quiet_mace():
        torch.save(to_mace_model(model, atomic_energies, head), content)
    write_atomically(path, content.getvalue())


def export_compiled(
    model: torch.nn.Module, head: str, atomic_energies: Sequence[float], path: Path
) -> None:
    """Write a model as TorchScript, with its architecture beside it, for ``torch.jit.load``.

    As MACE's own training command writes it.  Atomic as :func:`export_model`.

    Raises
    ------
    RuntimeError
        If TorchScript cannot compile the model.
    """
    whole = to_mace_model(model, atomic_energies, head)
    content = io.BytesIO()
    with quiet_mace(), default_dtype(next(whole.parameters()).dtype):
        config = json.dumps(convert_to_json_format(extract_config_mace_model(whole)))
        # The files that MACE puts into its own; of the source's commit nothing is known.
        extra = {"commit.txt": b"", "config.yaml": config}
        torch.jit.save(jit.compile(whole), content, _extra_files=extra)
    write_atomically(path, content.getvalue())


def read_exported(path: Path) -> MaceModel:
    """A model that MACE or :func:`export_model` wrote.

    Such a file is a pickle and runs code when read: only read files that you trust.

    Raises
    ------
    ValueError
        If the file cannot be read as a MACE model.
    """
    try:
        # MACE saves whole modules, which cannot be read as weights only.  The path is one that the
        # user names (a foundation model) or an export in this run's own folder; snapshots, which
        # are what a run continues from, hold weights only.
        with quiet_mace():
            model = torch.load(path, map_location="cpu", weights_only=False)
        normalisation_of(model)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"{path}: not a MACE model that this installation can read "
            f"({type(error).__name__}: {error}). Expected a .model file written with the same "
            "e3nn version."
        ) from error
    return model


def normalisation_of(model: MaceModel) -> NormalisationConstants:
    """The constants that a model as MACE saves it computes with; those of its first head."""
    return NormalisationConstants(
        atomic_energies=tuple(
            torch.atleast_2d(model.atomic_energies_fn.atomic_energies)[0].tolist()
        ),
        scale=float(model.scale_shift.scale.flatten()[0]),
        shift=float(model.scale_shift.shift.flatten()[0]),
        avg_num_neighbors=float(model.interactions[0].avg_num_neighbors),
    )


def model_misfit(
    other: MaceModel, elements: Sequence[int], r_max: float, model: torch.nn.Module
) -> str | None:
    """Why the weights of `other` cannot be those of `model`, or None.

    Parameters
    ----------
    other
        As `model`, in the form that is run.
    elements, r_max
        Atomic numbers and cutoff in A that are expected.
    """
    theirs = tuple(int(number) for number in other.atomic_numbers)
    if theirs != tuple(elements):
        return f"knows the atomic numbers {theirs}, geometry.in has {tuple(elements)}"
    if abs(float(other.r_max) - r_max) > 1e-6:  # A, float32
        return f"r_max = {float(other.r_max)}, mace_settings.yaml has {r_max}"
    shapes = [{n: t.shape for n, t in m.state_dict().items()} for m in (other, model)]
    different = sorted(
        n for n in shapes[0].keys() | shapes[1].keys() if shapes[0].get(n) != shapes[1].get(n)
    )
    if different:
        name = different[0]
        return (
            f"its weights do not fit ARCHITECTURE of mace_settings.yaml (first: {name}, "
            f"{shapes[0].get(name)} in the file, {shapes[1].get(name)} here)"
        )
    return None
