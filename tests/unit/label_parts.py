"""Labels with arbitrary content, for the tests of what keeps and writes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fhi_al.core.label import Label, Origin
from fhi_al.core.structure import geometry_key
from fhi_al.labels.store import Record, Rejected


def _structure(seed: int, n_atoms: int, pbc: bool) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    positions = generator.standard_normal((n_atoms, 3))
    cell = 10.0 * np.eye(3) + generator.standard_normal((3, 3)) if pbc else np.zeros((3, 3))
    return {
        "key": geometry_key(0, positions, cell),
        "system": 0,
        "numbers": generator.integers(1, 90, n_atoms),
        "positions": positions,
        "cell": cell,
        "pbc": pbc,
        "origin": Origin("active_learning", seed % 3, 10 * seed),
    }


def some_label(seed: int, n_atoms: int = 4, pbc: bool = False, **changes: Any) -> Label:
    """A label of random numbers; a crystal has a stress."""
    generator = np.random.default_rng([seed, 1])
    stress = generator.standard_normal((3, 3))
    values = {
        **_structure(seed, n_atoms, pbc),
        "energy": 1000.0 * float(generator.standard_normal()),
        "forces": generator.standard_normal((n_atoms, 3)),
        "stress": stress + stress.T if pbc else None,
    }
    return Label(**{**values, **changes})


def some_rejected(seed: int, reason: str = "the SCF did not converge") -> Rejected:
    """A record of a structure whose label was discarded."""
    return Rejected(**_structure(seed, 4, False), reason=reason)


def bits(record: Record) -> tuple[Any, ...]:
    """Everything in a record, such that equal means bitwise equal."""

    def of(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value.dtype.str, value.shape, value.tobytes()
        return (value.hex(),) if isinstance(value, float) else value

    return (type(record), *(of(value) for value in vars(record).values()))
