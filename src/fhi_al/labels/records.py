"""Reference results as lines of text, and back, bit for bit.  Touches no files.

A line is a JSON object (floats as Python writes them) with a CRC of its content.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fhi_al.core.label import Label, Origin
from fhi_al.core.structure import Array


@dataclass(frozen=True, eq=False)
class Rejected:
    """A structure (lengths in A) whose reference result must not be used, and why."""

    key: str
    system: int
    numbers: NDArray[np.int64]
    positions: Array
    cell: Array
    pbc: bool
    origin: Origin
    reason: str


Record = Label | Rejected


@dataclass(frozen=True, eq=False)
class Entry:
    """A line: a result, or None where it is forgotten; its engine and limits, if it names them."""

    key: str
    record: Record | None
    engine: str = ""
    limits: str | None = None


def result_line(record: Record, engine: str, limits: str) -> bytes:
    """A result as a line.

    Parameters
    ----------
    record : Label or Rejected
    engine : str
        Fingerprint of the engine that it is of.
    limits : str
        What it was judged by.
    """
    values: dict[str, Any] = {
        "key": record.key,
        "engine": engine,
        "origin": _origin(record.origin),
        "system": record.system,
        "numbers": record.numbers.tolist(),
        "positions": record.positions.tolist(),
        "cell": record.cell.tolist(),
        "pbc": record.pbc,
    }
    if isinstance(record, Rejected):
        values["rejected"] = record.reason
        values["limits"] = limits
    else:
        values["energy"] = record.energy
        values["forces"] = record.forces.tolist()
        values["stress"] = None if record.stress is None else record.stress.tolist()
        if record.given_config_type is not None:
            values["config_type"] = record.given_config_type
    return _checked_line(values)


def _origin(origin: Origin) -> dict[str, Any]:
    values = asdict(origin)
    # What says nothing is left out: as programs wrote it that did not know of it.
    optional = ("md", "source", "system")
    return {name: value for name, value in values.items() if value or name not in optional}


def forgotten_line(key: str, reason: str) -> bytes:
    """A line that says that the result for a geometry does not count any more, and why."""
    return _checked_line({"key": key, "forgotten": reason})


def _checked_line(values: dict[str, Any]) -> bytes:
    text = json.dumps(values, separators=(",", ":"))
    return f'{{"crc":{zlib.crc32(text.encode())},"label":{text}}}\n'.encode()


def read_line(line: bytes) -> Entry | None:
    """What a line says; None if it is damaged."""
    try:
        head, text = line.rstrip(b"\n").split(b',"label":', 1)
        crc = int(head.removeprefix(b'{"crc":'))
        text = text.removesuffix(b"}")
        if not line.endswith(b"\n") or zlib.crc32(text) != crc:
            return None
        values = json.loads(text)
    except ValueError:
        return None
    if "forgotten" in values:
        return Entry(values["key"], None)
    return Entry(values["key"], _record(values), values["engine"], values.get("limits"))


def _record(values: dict[str, Any]) -> Record:
    common: dict[str, Any] = {
        "key": values["key"],
        "system": values["system"],
        "numbers": np.array(values["numbers"], dtype=np.int64),
        "positions": np.array(values["positions"]),
        "cell": np.array(values["cell"]),
        "pbc": values["pbc"],
        "origin": Origin(**values["origin"]),
    }
    if "rejected" in values:
        return Rejected(**common, reason=values["rejected"])
    stress = values["stress"]
    return Label(
        **common,
        energy=values["energy"],
        forces=np.array(values["forces"]),
        stress=None if stress is None else np.array(stress),
        given_config_type=values.get("config_type"),
    )
