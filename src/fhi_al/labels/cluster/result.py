"""The result of a job as a file: written whole by the job, read by whoever comes back for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from fhi_al.core.structure import Array
from fhi_al.engines.engine import ReferenceResult
from fhi_al.engines.fingerprint import Fingerprint
from fhi_al.storage.atomic_file import write_atomically

RESULT = "result.json"
VERSION = 1


def write_result(
    folder: Path, engine: Fingerprint, key: str, result: ReferenceResult, seconds: float
) -> None:
    """Write what a job gave to its folder: the whole file or none, and on the disk.

    Parameters
    ----------
    folder : Path
        The job's.
    engine : Fingerprint
        Of the engines.
    key : str
        Name of the geometry.
    result : ReferenceResult
    seconds : float
        Wall time of the calculation.
    """
    content = {
        "version": VERSION,
        "engine": engine.value,
        "key": key,
        "seconds": seconds,
        "energy": result.energy,
        "forces": result.forces.tolist(),
        "stress": None if result.stress is None else result.stress.tolist(),
        "converged": result.converged,
        "message": result.message,
    }
    write_atomically(folder / RESULT, json.dumps(content) + "\n")


def read_result(
    folder: Path, engine: Fingerprint, key: str, n_atoms: int, wants_stress: bool = False
) -> tuple[ReferenceResult, float] | None:
    """The result that lies in a job's folder, and the wall time of its calculation in s.

    Parameters
    ----------
    folder : Path
    engine : Fingerprint
    key : str
    n_atoms : int
    wants_stress : bool
        One without a stress, of a launch that did not ask for it, does not do.

    Returns
    -------
    (ReferenceResult, float) or None
        None if there is none, it is another engine's or geometry's, or it is damaged.
    """
    try:
        found = parsed_result((folder / RESULT).read_text(), engine, key, n_atoms)
    except OSError:
        return None
    if found is not None and wants_stress and found[0].converged and found[0].stress is None:
        return None
    return found


def parsed_result(
    text: str, engine: Fingerprint, key: str, n_atoms: int
) -> tuple[ReferenceResult, float] | None:
    """As :func:`read_result`, from the file's text."""
    try:
        content: dict[str, Any] = json.loads(text)
        if (content["version"], content["key"]) != (VERSION, key):
            return None
        if not engine.matches(content["engine"]):
            return None
        stress = content["stress"]
        result = ReferenceResult(
            energy=float(content["energy"]),
            forces=_numbers(content["forces"], (n_atoms, 3)),
            stress=None if stress is None else _numbers(stress, (3, 3)),
            converged=bool(content["converged"]),
            message=str(content["message"]),
        )
        return result, float(content["seconds"])
    except (ValueError, TypeError, KeyError):
        return None


def _numbers(values: object, shape: tuple[int, int]) -> Array:
    numbers = np.array(values, dtype=np.float64)
    if numbers.shape != shape:
        raise ValueError(f"shape {numbers.shape}, expected {shape}")
    return numbers
