"""How temperatures and pressures are written that change with the MD steps of a trajectory.

Owns what is read of them and the wording of what was expected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from fhi_al.settings.problems import shown
from fhi_al.settings.value_types import literal, optional, read_integer, read_number, refuse

Ramp = dict[str, float | int]
Steps = dict[int, float]

_RAMP = ("from", "to", "over")
_FORMS = (
    "a number, {from: 300, to: 1200, over: 5000} (MD steps) or {0: 300, 2000: 600} (from those MD"
    " steps on)"
)


def read_schedule(least: float, most: float, unit: str) -> Callable[[object], Any]:
    """A reader of a number or a schedule, whose values are above `least` and below `most`."""

    def value(given: object) -> float:
        number = read_number(given)
        if not least < number:
            raise refuse(f"must be above {least:g} {unit}")
        if not number < most:
            raise refuse(f"must be below {most:g} {unit}")
        return number

    def read(given: object) -> Any:
        given = literal(given)
        if isinstance(given, list | tuple):
            raise refuse(f"must be {_FORMS}; a list of MD blocks has several")
        if not isinstance(given, Mapping):
            return value(given)
        if set(given) & set(_RAMP):
            return _ramp(given, value)
        return _steps(given, value)

    return read


def read_ladder(least: float, unit: str) -> Callable[[object], Any]:
    """A reader of a number, a schedule or a list of them, each of which makes an MD block."""
    read_one = read_schedule(least, math.inf, unit)

    def read(given: object) -> Any:
        given = literal(given)
        if not isinstance(given, list | tuple):
            return read_one(given)
        if not given:
            raise refuse("is empty: expected a temperature for each MD block")
        return [read_one(each) for each in given]

    return read


def _ramp(given: Mapping[Any, Any], value: Callable[[object], float]) -> Ramp:
    missing = [key for key in _RAMP if key not in given]
    unknown = [shown(key) for key in given if key not in _RAMP]
    if missing or unknown:
        found = f"lacks {', '.join(missing)}" if missing else f"has no {', '.join(unknown)}"
        raise refuse(f"a ramp {found}: expected {{from: 300, to: 1200, over: 5000}} (MD steps)")
    try:
        n_steps = read_integer(given["over"])
    except PydanticCustomError:
        n_steps = 0
    if n_steps < 1:
        raise refuse("over: must be a whole number of MD steps, at least 1")
    start, end = (_part(key, given[key], value) for key in ("from", "to"))
    return {"from": start, "to": end, "over": n_steps}


def _steps(given: Mapping[Any, Any], value: Callable[[object], float]) -> Steps:
    found: Steps = {}
    for key, each in given.items():
        try:
            step = read_integer(key)
        except PydanticCustomError:
            step = -1
        if step < 0:
            raise refuse(f"{shown(key)} is no MD step: expected {_FORMS}")
        if step in found:
            raise refuse(f"MD step {step} is there twice. Keep one of the two")
        found[step] = _part(str(step), each, value)
    if 0 not in found:
        raise refuse("must say what holds from MD step 0 on, such as {0: 300, 2000: 600}")
    return dict(sorted(found.items()))


def _part(name: str, given: object, value: Callable[[object], float]) -> float:
    try:
        return value(given)
    except PydanticCustomError as error:
        raise refuse(f"{name}: {error.message()}") from error


Temperature = Annotated[
    float | Ramp | Steps | list[float | Ramp | Steps], BeforeValidator(read_ladder(0.0, "K"))
]
OptionalPressure = Annotated[
    float | Ramp | Steps | None, BeforeValidator(optional(read_schedule(-1000.0, 1000.0, "GPa")))
]
