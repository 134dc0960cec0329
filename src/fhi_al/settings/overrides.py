"""Keys that are given on the command line, ``--set SECTION.key=value``, over those of the files.

They become part of the documents as they are read, so that everything after takes them for keys of
the files; only messages name another place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fhi_al.settings.keys import FILE_NAMES, LAYOUTS, LISTS, OTHER_SPELLINGS, keys_of
from fhi_al.settings.problems import Problem, SettingsError, nearest
from fhi_al.settings.yaml_reading import Document, KeyPath, read_value

OPTION = "--set"
_FORM = "expected SECTION.key=value, such as ACTIVE_LEARNING.c_x=0.2"
_SECTION = re.compile(r"(.*?)(?:\[(\d+)\])?")


@dataclass(frozen=True)
class Override:
    """A key with the value that the command line gives it.

    Parameters
    ----------
    section : str
        Such as ``MD``.
    index : int or None
        Of the block, where a section has several: ``MD[1]``.
    keys : tuple of str
        The key, and perhaps keys below it.
    value : value
        Plain, as YAML reads it.
    """

    section: str
    index: int | None
    keys: tuple[str, ...]
    value: Any

    @property
    def label(self) -> str:
        """As the command line has it."""
        block = "" if self.index is None else f"[{self.index}]"
        return ".".join((f"{self.section}{block}", *self.keys))

    def problem(self, message: str) -> Problem:
        """Something wrong with it."""
        return Problem(f"{OPTION} {self.label}", None, self.label, message)


def read_overrides(texts: Sequence[str]) -> list[Override]:
    """The keys that the command line gives; of the same one the last.

    Raises
    ------
    SettingsError
        With all that are no ``SECTION.key=value``.
    """
    found: dict[str, Override] = {}
    problems: list[Problem] = []
    for text in texts:
        label, equals, written = text.partition("=")
        section, *keys = label.strip().split(".")
        place = f"{OPTION} {label.strip()}"
        match = _SECTION.fullmatch(section)
        assert match is not None
        if not equals or not keys or not all(keys):
            problems.append(Problem(f"{OPTION} {text}", None, None, f"no key: {_FORM}."))
            continue
        value, wrong = read_value(written, place)
        problems += wrong
        index = None if match[2] is None else int(match[2])
        name = OTHER_SPELLINGS.get(match[1], match[1])
        one = Override(name, index, tuple(keys), value)
        found[one.label] = one
    if problems:
        raise SettingsError(problems)
    return list(found.values())


def with_overrides(
    overrides: Sequence[Override], documents: Mapping[str, Document]
) -> dict[str, tuple[str, ...]]:
    """Put keys into the documents of the files.

    Parameters
    ----------
    overrides : sequence of Override
    documents : mapping
        By the kind of file; they are changed.

    Returns
    -------
    dict
        The labels of the keys, as messages about the files have them, by the kind of file.

    Raises
    ------
    SettingsError
        If a section or block is none of these files.
    """
    labels: dict[str, tuple[str, ...]] = dict.fromkeys(documents, ())
    problems: list[Problem] = []
    for one in overrides:
        kind = _kind(one)
        if kind is None:
            problems.append(one.problem(_unknown_section(one)))
        elif kind not in documents:
            message = (
                f"is a key of {FILE_NAMES[kind]}, which this command does not read. Remove it."
            )
            problems.append(one.problem(message))
        else:
            try:
                labels[kind] = (*labels[kind], _put(one, documents[kind]))
            except ValueError as error:
                problems.append(one.problem(str(error)))
    if problems:
        raise SettingsError(problems)
    return labels


def placed(problem: Problem, labels: Sequence[str]) -> Problem:
    """A problem, which is of the command line if its key is."""
    for label in labels:
        if problem.key is not None and f"{problem.key}.".startswith(f"{label}."):
            return replace(problem, file=f"{OPTION} {label}", line=None)
    return problem


def _kind(one: Override) -> str | None:
    """Which file has the key: both have a section MISC."""
    having = [kind for kind, layout in LAYOUTS.items() if one.section in layout]
    knowing = [kind for kind in having if one.keys[0] in keys_of(LAYOUTS[kind][one.section])]
    return next(iter([*knowing, *having]), None)


def _unknown_section(one: Override) -> str:
    known = list(dict.fromkeys(name for layout in LAYOUTS.values() for name in layout))
    guess = nearest(one.section, known)
    hint = f"Did you mean {guess}?" if guess else f"Expected one of {', '.join(known)}."
    return f"unknown section {one.section}. {hint}"


def _put(one: Override, document: Document) -> str:
    """Set the key in a document; its label there.

    Raises
    ------
    ValueError
        If there is no such block, or a key above it has a plain value.
    """
    data, lines = document.data, document.lines
    old = [name for name, new in OTHER_SPELLINGS.items() if new == one.section and name in data]
    name = old[0] if old else one.section
    path: KeyPath = (name,)
    label = one.section
    block = data.get(name)
    if block is None:
        block = data[name] = {}
    places = list(_blocks(one.section, block))
    if places:
        if one.index is None and len(places) > 1:
            raise ValueError(
                f"{one.section} has {len(places)} blocks: expected the one that is meant, such as"
                f" {one.section}[0].{'.'.join(one.keys)}."
            )
        index = one.index or 0
        if index >= len(places):
            raise ValueError(f"{one.section} has {len(places)} block(s), counted from 0.")
        path = (*path, places[index])
        label = f"{label}[{index}]" if len(places) > 1 else label
        if block[places[index]] is None:
            block[places[index]] = {}
        block = block[places[index]]
    elif one.index:
        raise ValueError(f"{one.section} has one block, counted from 0.")
    for key in one.keys[:-1]:
        _require_keys(block, label)
        label = f"{label}.{key}"
        path = (*path, key)
        if block.get(key) is None:
            block[key] = {}
        block = block[key]
    _require_keys(block, label)
    path = (*path, one.keys[-1])
    for known in [known for known in lines if known[: len(path)] == path]:
        del lines[known]
    block[one.keys[-1]] = one.value
    return f"{label}.{one.keys[-1]}"


def _blocks(section: str, content: Any) -> Iterator[int]:
    """Where the blocks of a section are in a list or a numbered mapping; none of a single one."""
    if section in LISTS and isinstance(content, list):
        yield from range(len(content))
    elif section == "MD" and content and all(isinstance(key, int) for key in content):
        yield from content


def _require_keys(block: Any, label: str) -> None:
    if not isinstance(block, dict):
        raise ValueError(f"{label} has no keys below it: expected a key of a section.")
