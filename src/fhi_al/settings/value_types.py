"""The kinds of values a settings key can have and how each is read from YAML.

Owns the leniency (``True`` as text, ``1e-3`` as text, upper and lower case) and the wording of what
was expected.  Knows no keys.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from fhi_al.settings.problems import nearest, shown
from fhi_al.settings.yaml_reading import NUMBER

LARGEST_SEED = 2**32 - 1  # numpy's RandomState takes no larger one


class Section(BaseModel):
    """A section of a settings file."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def refuse(message: str) -> PydanticCustomError:
    """The error a reader raises; `message` says what was expected."""
    # Braces would be taken for pydantic's own placeholders.
    return PydanticCustomError("settings", "{text}", {"text": message})


def read_number(value: object) -> float:
    """A finite number; text such as ``1e-3`` is one."""
    if isinstance(value, str) and NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, str) and value.strip().lstrip("+-.").casefold() in ("nan", "inf"):
        raise refuse("must be a finite number")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise refuse("must be a number")
    try:
        number = float(value)
    except OverflowError:
        raise refuse("must be a finite number") from None
    if not math.isfinite(number):
        raise refuse("must be a finite number")
    return number


def read_integer(value: object) -> int:
    """A whole number; ``1.0e3`` is one, ``1.5`` is not."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        number = read_number(value)
    except PydanticCustomError as error:
        raise refuse("must be a whole number") from error
    if number != int(number):
        raise refuse("must be a whole number")
    return int(number)


def count_or_auto(least: int) -> Callable[[object], int | str]:
    """A reader of a whole number of at least `least`, or ``auto``."""

    def read(value: object) -> int | str:
        if isinstance(value, str) and value.strip().casefold() == "auto":
            return "auto"
        try:
            number = read_integer(value)
        except PydanticCustomError:
            number = least - 1
        if number < least:
            raise refuse(f"must be a whole number of at least {least}, or auto")
        return number

    return read


def read_positive_or_auto(value: object) -> float | str:
    """A finite number above 0, or ``auto``."""
    if isinstance(value, str) and value.strip().casefold() == "auto":
        return "auto"
    try:
        number = read_number(value)
    except PydanticCustomError:
        number = 0.0
    if number <= 0:
        raise refuse("must be a number above 0, auto or None")
    return number


def read_boolean(value: object) -> bool:
    """``true`` or ``false``, also as text in upper or lower case."""
    if isinstance(value, str) and value.strip().casefold() in ("true", "false"):
        return value.strip().casefold() == "true"
    if not isinstance(value, bool):
        raise refuse("must be true or false")
    return value


def boolean_or(word: str) -> Callable[[object], bool | str]:
    """A reader of ``true``, ``false`` or a word."""

    def read(value: object) -> bool | str:
        if isinstance(value, str) and value.strip().casefold() == word:
            return word
        try:
            return read_boolean(value)
        except PydanticCustomError:
            raise refuse(f"must be true, false or {word}") from None

    return read


def read_text(value: object) -> str:
    """A text that is not empty."""
    if not isinstance(value, str):
        raise refuse("must be text (put it in quotes)")
    if not value.strip():
        raise refuse("must not be empty")
    return value.strip()


def read_path(value: object) -> Path:
    """A path; relative ones count from the run's folder."""
    if isinstance(value, Path):
        return value
    try:
        return Path(read_text(value))
    except PydanticCustomError as error:
        raise refuse("must be a path") from error


def read_plain_name(value: object) -> str:
    """A name that can be part of a file name and cannot leave its folder."""
    name = read_text(value)
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", name) or ".." in name or len(name) > 100:
        raise refuse(
            "must be a plain name of letters, digits, '_', '-', '+' and '.': it becomes part of"
            " file names (no '/', no '..', no blanks, at most 100 characters)"
        )
    return name


def read_import_path(value: object) -> str:
    """``package.module.Name``; of ``package.module:Name``, which means the same, too."""
    path = read_text(value)
    module, _, name = path.rpartition(":" if ":" in path else ".")
    parts = [*module.split("."), name]
    if not all(part.isidentifier() for part in parts):
        raise refuse(
            "must be an import path such as ase.calculators.emt.EMT, or ase.calculators.emt:EMT"
        )
    return ".".join(parts)


def read_arguments(value: object) -> dict[str, Any]:
    """Keyword arguments: words to plain finite values, lists and mappings of them."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise refuse("must be a mapping of argument: value")
    for name in value:
        if not isinstance(name, str) or not name.isidentifier():
            raise refuse(f"argument name {shown(name)} is not a Python name")
    _check_finite(value)
    return dict(value)


def _check_finite(value: object) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise refuse("holds a number that is not finite")
    if isinstance(value, Mapping):
        for inner in value.values():
            _check_finite(inner)
    elif isinstance(value, list):
        for inner in value:
            _check_finite(inner)


def literal(value: object) -> object:
    """The list or mapping that a text such as ``"[16, 16]"`` spells; other values as they are."""
    if isinstance(value, str):
        try:
            return ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return value
    return value


def optional(read: Callable[[object], Any]) -> Callable[[object], Any]:
    """A reader that also takes null and the text ``None``."""

    def read_optional(value: object) -> Any:
        if value is None or (isinstance(value, str) and value.casefold() in ("none", "null")):
            return None
        return read(value)

    return read_optional


Number = Annotated[float, BeforeValidator(read_number)]
Integer = Annotated[int, BeforeValidator(read_integer)]
CountOrAuto = Annotated[
    int | Literal["auto"],
    BeforeValidator(count_or_auto(1)),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto"}]}),
]
CountOrNoneOrAuto = Annotated[
    int | Literal["auto"],
    BeforeValidator(count_or_auto(0)),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"const": "auto"}]}),
]
Boolean = Annotated[bool, BeforeValidator(read_boolean)]
BooleanOrAuto = Annotated[bool | Literal["auto"], BeforeValidator(boolean_or("auto"))]
BooleanOrSnapshots = Annotated[
    bool | Literal["snapshots"], BeforeValidator(boolean_or("snapshots"))
]
FilePath = Annotated[Path, BeforeValidator(read_path)]
PlainName = Annotated[str, BeforeValidator(read_plain_name)]
Arguments = Annotated[dict[str, Any], BeforeValidator(read_arguments)]
OptionalText = Annotated[str | None, BeforeValidator(optional(read_text))]
OptionalPlainName = Annotated[str | None, BeforeValidator(optional(read_plain_name))]
OptionalNumber = Annotated[float | None, BeforeValidator(optional(read_number))]
PositiveOrAutoOrNone = Annotated[
    float | Literal["auto"] | None,
    BeforeValidator(optional(read_positive_or_auto)),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"const": "auto"}, {"type": "null"}]}
    ),
]
OptionalInteger = Annotated[int | None, BeforeValidator(optional(read_integer))]
OptionalPath = Annotated[Path | None, BeforeValidator(optional(read_path))]
OptionalImportPath = Annotated[str | None, BeforeValidator(optional(read_import_path))]


def folded(word: str) -> str:
    """A choice as it is compared: without case, blanks, '-' and '_'."""
    return re.sub(r"[\s_-]", "", word.casefold())


@dataclass(frozen=True)
class Choice:
    """Marks a ``Literal`` whose values may be spelt in upper or lower case.

    Parameters
    ----------
    refused : mapping
        Values that exist elsewhere and are not supported here, each with the reason.
    """

    refused: Mapping[str, str] = field(default_factory=dict)

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        allowed: tuple[str, ...] = get_args(source)

        def read(value: object) -> object:
            return self.canonical(value, allowed)

        return core_schema.no_info_before_validator_function(read, handler(source))

    def canonical(self, value: object, allowed: tuple[str, ...]) -> str:
        """The spelling of `value` in `allowed`; raises with the reason if it is not one of them."""
        word = "None" if value is None else str(value)
        for name in allowed:
            if folded(word) == folded(name):
                return name
        for name, reason in self.refused.items():
            if folded(word) == folded(name):
                raise refuse(reason)
        message = "must be " + (allowed[0] if len(allowed) == 1 else f"one of {', '.join(allowed)}")
        guess = nearest(word, allowed)
        raise refuse(message if guess is None else f"{message}. Did you mean {guess}?")


class Choices(Choice):
    """Marks a ``Literal``, or a tuple of its values: a choice, or a list of some of them."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        allowed: tuple[str, ...] = get_args(get_args(source)[0])

        def read(value: object) -> object:
            value = literal(value)
            if not isinstance(value, list | tuple):
                return self.canonical(value, allowed)
            chosen = tuple(self.canonical(each, allowed) for each in value)
            if not chosen:
                raise refuse(f"must be one of {', '.join(allowed)}, or a list of them")
            for name in chosen:
                if chosen.count(name) > 1:
                    raise refuse(f"has {name} twice: name each once")
            return chosen[0] if len(chosen) == 1 else chosen

        return core_schema.no_info_before_validator_function(read, handler(source))


def setting(
    default: Any,
    meaning: str,
    *,
    unit: str | None = None,
    try_: Any = None,
    shown_default: str | None = None,
    **bounds: Any,
) -> Any:
    """A key: default, meaning, unit, what to try after a bad value, and pydantic's bounds.

    Parameters
    ----------
    default : value
        Also a callable without arguments, which makes it.
    shown_default : str, optional
        What the documentation shows where the default depends on the machine.
    """
    extra = {"unit": unit, "try": try_, "shown_default": shown_default}
    made = {"default_factory": default} if callable(default) else {"default": default}
    return Field(**made, description=meaning, json_schema_extra=extra, **bounds)
