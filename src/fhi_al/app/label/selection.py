"""Which structures of a file are the most different ones: by descriptors of a model.

Owns ``labelled/selection.json``, which keeps the choice: a launch that goes on chooses the same.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from fhi_al.app.foundation import Describe, file_descriptors
from fhi_al.app.label.structure_systems import FileSystems, frames_of
from fhi_al.core.diversity import farthest_first, fingerprints_of_any
from fhi_al.core.errors import InputError
from fhi_al.settings import Settings
from fhi_al.storage.atomic_file import write_atomically

log = logging.getLogger(__name__)

FILE = "selection.json"


@dataclass(frozen=True, eq=False)
class Selection:
    """How many structures are chosen, and by what.

    Parameters
    ----------
    n_structures : int
    model : Path
    describe : callable
        Atoms -> features of each, (n_atoms, n_features).
    """

    n_structures: int
    model: Path
    describe: Describe


def selection(
    n_structures: int | None, model: Path | None, settings: Settings, systems: FileSystems
) -> Selection | None:
    """What ``--select`` and ``--model`` ask for; None without both.

    Raises
    ------
    InputError
        If one is given alone, or the model does not do for the structures.
    """
    if n_structures is None and model is None:
        return None
    if n_structures is None or model is None:
        raise InputError(
            [
                "--select and --model: expected both or none: which structures are the most"
                " different ones is seen by the descriptors of a model. Give --model FILE, such as"
                " one of model/ of a finished run, and --select N."
            ]
        )
    if n_structures < 1:
        raise InputError([f"--select {n_structures}: expected a number of structures, at least 1."])
    backend = settings.al.model_backend
    if backend != "mace":
        raise InputError(
            [
                f"--model {model}: model_backend is {backend}: expected mace, whose model files"
                " hold all that descriptors take. Leave --select and --model out, or choose from"
                " a folder with model_backend: mace."
            ]
        )
    try:
        known, describe = file_descriptors(model)
    except ValueError as error:
        raise InputError([f"--model: {error}"]) from error
    strangers = {
        frame: missing
        for geometry, frames in zip(systems.geometries, systems.frames(), strict=True)
        if (missing := sorted(set(geometry.structure.numbers.tolist()) - set(known)))
        for frame in frames
    }
    if strangers:
        missing = sorted({number for each in strangers.values() for number in each})
        raise InputError(
            [
                f"{systems.path}: {frames_of(sorted(strangers))}: --model {model} does not know"
                f" {', '.join(chemical_symbols[z] for z in missing)}: expected a model of all"
                " elements. Take another one, or remove these frames."
            ]
        )
    return Selection(n_structures, model, describe)


def selected(
    chosen: Selection, systems: FileSystems, keys: Sequence[str], state: Path
) -> list[int]:
    """Indices of the chosen structures, the most different ones first.

    Parameters
    ----------
    chosen : Selection
    systems : FileSystems
    keys : sequence of str
        Names of the structures.
    state : Path
        Folder that keeps the choice.
    """
    path = state / FILE
    content = chosen.model.read_bytes() + "\n".join(keys).encode()
    digest = hashlib.sha256(content).hexdigest()
    most = min(chosen.n_structures, len(keys))
    order = _known(path, digest)
    if len(order) < most:
        log.info("%d most different ones of %d structures: choosing", most, len(keys))
        atoms = [each.atoms for each in systems.structures if each.atoms is not None]
        points = fingerprints_of_any(
            [chosen.describe(each) for each in atoms], [each.numbers for each in atoms]
        )
        # A shorter choice is the beginning of a longer one.
        order = farthest_first(points, np.empty((0, points.shape[1])), most)
        write_atomically(path, json.dumps({"of": digest, "order": order}) + "\n")
    return order[:most]


def _known(path: Path, digest: str) -> list[int]:
    try:
        content = json.loads(path.read_text())
        return [int(k) for k in content["order"]] if content["of"] == digest else []
    except (OSError, ValueError, KeyError, TypeError):
        return []
