"""The compiled export of a model, as MACE's own training command writes it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
from e3nn.util import jit
from mace.tools.scripts_utils import convert_to_json_format, extract_config_mace_model

from fhi_al.models.mace import default_dtype, quiet_mace
from fhi_al.models.mace.runtime_model import to_mace_model
from fhi_al.storage.atomic_file import write_atomically


def export_compiled(model: torch.nn.Module, path: Path) -> None:
    """Write a model as TorchScript, with its architecture beside it, for ``torch.jit.load``.

    Atomic: `path` is either the old file or the whole new one.

    Raises
    ------
    RuntimeError
        If TorchScript cannot compile the model.
    """
    whole = to_mace_model(model)
    for parameter in whole.parameters():
        parameter.requires_grad_(True)
    content = io.BytesIO()
    with quiet_mace(), default_dtype(next(whole.parameters()).dtype):
        config = json.dumps(convert_to_json_format(extract_config_mace_model(whole)))
        # The files that MACE puts into its own; of the source's commit nothing is known.
        extra = {"commit.txt": b"", "config.yaml": config}
        torch.jit.save(jit.compile(whole), content, _extra_files=extra)
    write_atomically(path, content.getvalue())
