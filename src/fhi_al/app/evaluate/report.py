"""Results of an evaluation: for the terminal, and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fhi_al.evaluation.limits import Judgement, verdict


@dataclass(frozen=True, eq=False)
class Part:
    """What one part of an evaluation found.

    Parameters
    ----------
    lines : list of str
        For the terminal.
    values : dict
        For JSON.
    judgements : list of Judgement
    """

    lines: list[str]
    values: dict[str, Any]
    judgements: list[Judgement] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All that was found.

    Parameters
    ----------
    lines : list of str
    values : dict
    """

    lines: list[str]
    values: dict[str, Any]

    @classmethod
    def of(cls, parts: Sequence[Part]) -> Evaluation:
        """Parts put together, with a verdict."""
        lines: list[str] = []
        values: dict[str, Any] = {}
        judgements: list[Judgement] = []
        for part in parts:
            lines += [*part.lines, ""]
            values |= part.values
            judgements += part.judgements
        words = verdict(judgements)
        values["judgements"] = [one.as_plain() for one in judgements]
        values["verdict"] = words[-1].removeprefix("verdict: ")
        return cls([*lines, *words], _finite(values))

    def as_json(self) -> str:
        """The values as text; what is not finite is null."""
        return json.dumps(self.values, indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
