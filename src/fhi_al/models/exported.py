"""Exported models of torch backends that have no file format of their own: values and tensors."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fhi_al.models.interface import NormalisationConstants
from fhi_al.storage.atomic_file import write_atomically


def export_model(
    identity: Mapping[str, Any],
    constants: NormalisationConstants,
    tensors: Mapping[str, torch.Tensor],
    path: Path,
) -> None:
    """Write a model; `path` is either the old file or the whole new one.

    Parameters
    ----------
    identity
        What must be equal for the weights to fit.
    constants
        Of its training set.
    tensors
        Its state dict.
    path
    """
    content = io.BytesIO()
    torch.save(
        {
            "identity": dict(identity),
            "normalisation": asdict(constants),
            "model": {name: tensor.cpu() for name, tensor in tensors.items()},
        },
        content,
    )
    write_atomically(path, content.getvalue())


def read_exported(
    identity: Mapping[str, Any], path: Path
) -> tuple[dict[str, torch.Tensor], NormalisationConstants]:
    """The state dict and constants in a file of :func:`export_model`.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it does not fit.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        theirs = content["identity"]
        constants = NormalisationConstants(**content["normalisation"])
        tensors: dict[str, torch.Tensor] = content["model"]
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"{path}: not a model that this backend wrote ({type(error).__name__}: {error})."
        ) from error
    for key, ours in identity.items():
        if theirs.get(key) != ours:
            raise ValueError(
                f"{path}: {key} is {theirs.get(key)} in the file, {ours} here. "
                "Use the settings the model was trained with."
            )
    return tensors, constants
