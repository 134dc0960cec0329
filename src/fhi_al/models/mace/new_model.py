"""New models by MACE's own builder: with random weights, or those of a foundation model."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mace.tools.model_script_utils import configure_model
from mace.tools.utils import AtomicNumberTable

from fhi_al.models.mace import quiet_mace
from fhi_al.models.mace.exports import MaceModel


def new_model(
    arguments: argparse.Namespace,
    table: AtomicNumberTable,
    heads: Sequence[str],
    foundation: MaceModel | None = None,
) -> torch.nn.Module:
    """A new model, with E0s and shift of zero, scale and number of neighbours of one.

    Parameters
    ----------
    arguments
        MACE's namespace.
    table
        The elements of the new model.
    heads
    foundation : optional
        A model of one head that knows all these elements: scale, shift, number of neighbours and
        weights are its own, and each head begins with its readouts.
    """
    arguments = copy.deepcopy(arguments)
    arguments.scaling = "rms_forces_scaling"  # scale and shift are given: nothing is computed
    arguments.mean, arguments.std = [0.0] * len(heads), [1.0] * len(heads)
    arguments.avg_num_neighbors = 1.0
    configure: Any = configure_model
    with quiet_mace():
        found: tuple[torch.nn.Module, Any] = configure(
            arguments,
            train_loader=None,
            atomic_energies=np.zeros((len(heads), len(table.zs))),
            model_foundation=foundation,
            heads=list(heads),
            z_table=table,
        )
    return found[0]
