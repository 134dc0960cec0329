"""How files with labels of the user's are written: a path, or a mapping of its own keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from fhi_al.settings.problems import nearest, shown
from fhi_al.settings.value_types import literal, optional, read_number, read_text, refuse

FILE = "file"
NAMES = ("energy", "forces", "stress", "system")
RATIOS = ("valid_ratio", "test_ratio")
KEYS = (FILE, *NAMES, *RATIOS)
_FORM = "{file: PATH} with any of " + ", ".join(KEYS[1:])


def read_initial_data(value: object) -> list[dict[str, Any]]:
    """One entry for each path or pattern of paths, of which at least ``file`` is given."""
    value = literal(value)
    given = value if isinstance(value, list | tuple) else [value]
    if not given:
        raise refuse("is empty: expected a file, or a list of files")
    return [_entry(each) for each in given]


def _entry(given: object) -> dict[str, Any]:
    if isinstance(given, str | Path):
        given = {FILE: given}
    if not isinstance(given, Mapping):
        raise refuse(f"{shown(given)}: must be a path, or {_FORM}")
    for key in given:
        if key not in KEYS:
            guess = nearest(str(key), KEYS)
            hint = f"Did you mean {guess}?" if guess else f"Expected one of {', '.join(KEYS)}"
            raise refuse(f"unknown key {key}. {hint}")
    if FILE not in given:
        raise refuse(f"{shown(dict(given))}: lacks file: expected {_FORM}")
    return {key: _value(key, given[key]) for key in KEYS if given.get(key) is not None}


def _value(key: str, given: object) -> str | float:
    try:
        if key in RATIOS:
            return _ratio(key, given)
        return read_text(str(given) if isinstance(given, Path) else given)
    except PydanticCustomError as error:
        raise refuse(f"{key} = {shown(given)}: {error.message()}") from error


def _ratio(key: str, given: object) -> float:
    ratio = read_number(given)
    # A fold of its own for each member is at most a half of the points.
    most = 0.5 if key == "valid_ratio" else 1.0
    if not (0 <= ratio <= most or ratio == 1):
        raise refuse(f"must be from 0 to {most:g}{', or 1 for all of them' * (most < 1)}")
    return ratio


_ENTRY: dict[str, Any] = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {
                **{key: {"type": "string"} for key in (FILE, *NAMES)},
                **{key: {"type": "number", "minimum": 0, "maximum": 1} for key in RATIOS},
            },
            "required": [FILE],
            "additionalProperties": False,
        },
    ]
}
OptionalInitialData = Annotated[
    list[dict[str, Any]] | None,
    BeforeValidator(optional(read_initial_data)),
    WithJsonSchema(
        {
            "anyOf": [
                *_ENTRY["anyOf"],
                {"type": "array", "items": _ENTRY, "minItems": 1},
                {"type": "null"},
            ]
        }
    ),
]
