"""Settings as a commented YAML file.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

COMMENT_COLUMN = 34


@dataclass(frozen=True)
class Key:
    """A key with its value and what is said of it.

    Parameters
    ----------
    name : str
    value : str, bool, int, float, list or mapping
        Plain values.
    comment : str
        Behind it.
    """

    name: str
    value: object
    comment: str = ""


# A text is a line of comment of its own.
Lines = Sequence[Key | str]


def commented_yaml(head: Sequence[str], sections: Mapping[str, Lines]) -> str:
    """The text of a settings file.

    Parameters
    ----------
    head : sequence of str
        Comments at its beginning.
    sections : mapping
        Lines by the name of their section.
    """
    parts = ["\n".join(f"# {line}" for line in head)]
    for name, lines in sections.items():
        parts.append("\n".join([f"{name}:", *map(_line, lines)]))
    return "\n\n".join(parts) + "\n"


def _line(line: Key | str) -> str:
    if isinstance(line, str):
        return f"  # {line}"
    text = f"  {line.name}: {_written(line.value)}"
    # Two blanks at least: without one a # belongs to the value.
    return f"{text + '  ':<{COMMENT_COLUMN}}# {line.comment}" if line.comment else text


def _written(value: object) -> str:
    """A value in YAML's flow style; texts are quoted where they could be taken for others."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_written(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_written, value)) + "]"
    if isinstance(value, str) and not value.replace("-", "").replace("_", "").isalnum():
        return _quoted(value)
    return str(value)


def _quoted(text: str) -> str:
    # Paths and import paths need no quotes, unless they hold what YAML takes for its own.
    if all(letter.isalnum() or letter in "/._-~" for letter in text) and text[0] not in "-~":
        return text
    return "'" + text.replace("'", "''") + "'"
