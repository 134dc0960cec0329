"""The glossary of all settings in Markdown, made from the models; it stands in docs/reference."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from inspect import cleandoc
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from fhi_al.settings.changes import may_change
from fhi_al.settings.keys import FILE_NAMES, LAYOUTS, keys_below, keys_of, sections_of
from fhi_al.settings.problems import shown

BEGIN = "<!-- glossary:begin -->"
END = "<!-- glossary:end -->"

_TYPE_NAMES = {bool: "bool", int: "int", float: "float", str: "str", Path: "path", dict: "dict"}
_BOUND_WORDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def glossary_markdown() -> str:
    """One table per section: key, type, default, meaning with unit and bounds or choices.

    The last column says whether it may change in a run.
    """
    parts = []
    for kind in LAYOUTS:
        parts.append(f"## {FILE_NAMES[kind]}\n")
        for section, model in sections_of(kind).items():
            parts.append(f"### {section}\n\n{cleandoc(model.__doc__ or '')}\n")
            rows = ["| key | type | default | meaning | may change |", "|---|---|---|---|---|"]
            rows += [
                _row(key, info, may_change(f"{section}.{key}"))
                for key, info in keys_of(model).items()
            ]
            parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def _row(key: str, info: FieldInfo, changes: bool) -> str:
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    meaning = [info.description or ""]
    choices = _choices(info.annotation)
    if choices:
        meaning.append("One of " + ", ".join(f"`{choice}`" for choice in choices) + ".")
    details = []
    if extra.get("unit"):
        details.append(str(extra["unit"]))
    bounds = [
        f"{word} {getattr(mark, name):.12g}"
        for mark in info.metadata
        for name, word in _BOUND_WORDS.items()
        if hasattr(mark, name)
    ]
    details += [" and ".join(bounds)] if bounds else []
    if details:
        meaning.append(f"({'; '.join(details)})")
    default = extra.get("shown_default") or _default(info)
    kind = "keys" if keys_below(info) else _type_name(info.annotation)
    cells = [f"`{key}`", kind, str(default), " ".join(meaning), "yes" if changes else ""]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(info: FieldInfo) -> str:
    value = info.default
    if isinstance(value, tuple):
        value = list(value)
    return "none" if value is None else f"`{shown(value)}`"


def _choices(annotation: Any) -> tuple[str, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    # One of them, or a list of some.
    parts = get_args(annotation)
    is_list = len(parts) == 2 and get_origin(parts[1]) is tuple
    return get_args(parts[0]) if is_list and get_origin(parts[0]) is Literal else ()


def _type_name(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Literal:
        return "str"
    if origin is tuple:
        return f"list of {_type_name(get_args(annotation)[0])}"
    if origin is list:
        return "list"
    if origin is dict:
        return "dict"
    for part in get_args(annotation):
        if part is not NoneType:
            return _type_name(part)
    return _TYPE_NAMES[annotation]


def with_glossary(text: str) -> str:
    """The text with the current glossary between the two marker comments.

    Raises
    ------
    ValueError
        If the markers are not there once each, in order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"expected one {BEGIN} and after it one {END}")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{glossary_markdown()}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite the glossary of a Markdown file, or with ``--check`` say whether it is current."""
    parser = argparse.ArgumentParser(prog="python -m fhi_al.settings.glossary", description=__doc__)
    parser.add_argument("file", type=Path, help="Markdown file with the two marker comments")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if outdated")
    options = parser.parse_args(arguments)
    try:
        old = options.file.read_text(encoding="utf-8")
        new = with_glossary(old)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{options.file}: {error}\n")
        return 2
    if options.check:
        if old != new:
            sys.stderr.write(
                f"{options.file}: the glossary is not the one of the code. Run"
                f" python -m fhi_al.settings.glossary {options.file}\n"
            )
        return int(old != new)
    if old != new:
        options.file.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
