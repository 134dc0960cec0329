"""Check one settings file section by section against the models.  Knows no rule between keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from fhi_al.settings import retired
from fhi_al.settings.keys import (
    LAYOUTS,
    LISTS,
    OTHER_SPELLINGS,
    Layout,
    keys_below,
    keys_of,
    value_at,
)
from fhi_al.settings.messages import (
    about_unknown_key,
    about_unknown_section,
    broken_rule,
    instead,
    sentence,
)
from fhi_al.settings.overrides import placed
from fhi_al.settings.problems import Problem, shown
from fhi_al.settings.value_types import Section
from fhi_al.settings.yaml_reading import Document, KeyPath


@dataclass
class CheckedFile:
    """What a settings file says, key by key.

    Parameters
    ----------
    kind : str
        ``mace`` or ``active_learning``.
    file : str
        What messages call it.
    layout : mapping
        The models of its sections.
    blocks : dict
        The validated models by section: one each, MD and SYSTEMS may have several.  A key that was
        refused has its default there.
    given : dict
        Raw value of every known key in the file, by its label ``SECTION.key``; of a key with keys
        below it, by theirs as well.
    lines : dict
        Line of every section and key in the file, by label.
    refused : set
        Labels of keys (and sections) about which a problem was reported.
    overridden : tuple of str
        Labels of keys that the command line gives.
    """

    kind: str
    file: str
    layout: Layout
    blocks: dict[str, tuple[Section, ...]] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    overridden: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    def problem(self, label: str, message: str, *, about_value: bool = True) -> Problem:
        """A problem with the key `label`, with its line and, if it has one, its value."""
        text = label
        if about_value:
            value = self.value(label)
            if label in self.given:
                text = f"{label} = {shown(self.given[label])}"
            elif value is not None:
                text = f"{label} = {shown(value)} (the default)"
        line = self.lines.get(label)
        if line is None and "[" in label:  # a key that a block of several lacks
            line = self.lines.get(label.partition(".")[0])
        found = Problem(self.file, line, label, sentence(f"{text}: {message}"))
        return placed(found, self.overridden)

    def value(self, label: str) -> Any:
        """The validated value of a key, or None if there is no such key."""
        section, _, path = label.partition(".")
        for name, blocks in self.blocks.items():
            for index, block in enumerate(blocks):
                if section in (name, f"{name}[{index}]"):
                    return value_at(block, path)
        return None

    def sections(self) -> dict[str, Any]:
        """The models by section as the settings take them: MD and SYSTEMS as tuples."""
        return {
            section: blocks if section in LISTS else blocks[0]
            for section, blocks in self.blocks.items()
        }


def check_file(
    kind: str,
    document: Document,
    unreadable: Iterable[Problem] = (),
    layout: Layout | None = None,
    overridden: tuple[str, ...] = (),
) -> CheckedFile:
    """Validate every section and key of a document.

    Parameters
    ----------
    kind : str
        ``mace`` or ``active_learning``.
    document : Document
    unreadable : iterable of Problem
        What reading the document found; no second problem is reported for these keys.
    layout : mapping, optional
        The models of the sections, if they are not the usual ones of such a file.
    overridden : tuple of str, optional
        Labels of keys that the command line gives.
    """
    layout = LAYOUTS[kind] if layout is None else layout
    checked = CheckedFile(
        kind, document.file, layout, problems=list(unreadable), overridden=overridden
    )
    for problem in checked.problems:
        if problem.key is not None:
            section, dot, key = problem.key.partition(".")
            checked.refused.add(OTHER_SPELLINGS.get(section, section) + dot + key)
    found: dict[str, tuple[str | int, Any]] = {}
    for name, content in document.data.items():
        section = OTHER_SPELLINGS.get(str(name), str(name))
        if section not in layout:
            _unknown_section(checked, name, document)
        elif section in found:
            checked.problems.append(
                Problem(
                    checked.file,
                    document.lines.get((name,)),
                    section,
                    f"duplicate section {name}: {found[section][0]} is already in line"
                    f" {document.lines.get((found[section][0],))}. Merge the two.",
                )
            )
        else:
            found[section] = (name, content)
            checked.lines |= _line_of(document, (name,), section)
    for section, model in layout.items():
        blocks = []
        for label, path, content in _blocks(checked, section, found.get(section), document):
            blocks.append(_check_block(checked, model, label, path, content, document))
        checked.blocks[section] = tuple(blocks) or (model(),)
    return checked


def _blocks(
    checked: CheckedFile, section: str, found: tuple[str | int, Any] | None, document: Document
) -> Iterator[tuple[str, KeyPath, dict[Any, Any]]]:
    """The blocks of a section: label, path in the document, content."""
    if found is None:
        return
    name, content = found
    many: list[tuple[KeyPath, Any]] = [((name,), content)]
    if section in LISTS and isinstance(content, list) and content:
        many = [((name, index), block) for index, block in enumerate(content)]
    elif section == "MD" and _is_numbered(content):
        many = [((name, key), block) for key, block in content.items()]
    for index, (path, block) in enumerate(many):
        label = section if len(many) == 1 else f"{section}[{index}]"
        checked.lines |= _line_of(document, path, label)
        if block is None:
            block = {}
        if not isinstance(block, dict):
            checked.refused.add(section)
            checked.problems.append(
                checked.problem(
                    label, f"expected keys below it, found {shown(block)}", about_value=False
                )
            )
            continue
        yield label, path, block


def _line_of(document: Document, path: KeyPath, label: str) -> dict[str, int]:
    """The line of a section by its label; of values from Python there is none."""
    return {label: document.lines.get(path, 1)} if document.lines else {}


def _is_numbered(content: Any) -> bool:
    """Whether a section holds blocks by trajectory (``0:``, ``1:``, ...) instead of keys."""
    return isinstance(content, dict) and bool(content) and all(isinstance(k, int) for k in content)


def _unknown_section(checked: CheckedFile, name: str | int, document: Document) -> None:
    word = str(name)
    message, guess = about_unknown_section(checked.kind, word)
    if guess is not None:
        checked.refused.add(guess)
    checked.problems.append(Problem(checked.file, document.lines.get((name,)), word, message))


def _check_block(
    checked: CheckedFile,
    model: type[Section],
    label: str,
    path: KeyPath,
    content: dict[Any, Any],
    document: Document,
) -> Section:
    known = keys_of(model)
    values: dict[str, Any] = {}
    for key, value in content.items():
        full = f"{label}.{key}"
        line = document.lines.get((*path, key))
        if full in retired.RENAMED:
            now = retired.RENAMED[full]
            if now in content:
                message = f"{full} is the old name of {now}, which is given, too. Remove it."
                checked.problems.append(Problem(checked.file, line, full, message))
                continue
            checked.notes.append(f"{full} = {shown(value)}: read as {now}, its name now.")
            key, full = now, f"{label}.{now}"
        if line is not None:
            checked.lines[full] = line
        if isinstance(value, dict):  # whose keys nobody here knows, but others may complain about
            for inner in value:
                inner_line = document.lines.get((*path, key, inner))
                if inner_line is not None:
                    checked.lines[f"{full}.{inner}"] = inner_line
        if key in known:
            checked.given[full] = value
            below = keys_below(known[key])
            if below is not None and isinstance(value, dict):
                value = _check_block(checked, below, full, (*path, key), value, document)
            values[key] = value
        elif checked.kind == "mace" and key in retired.KEYS:
            note, error_message = retired.judge(full, str(key), value)
            if error_message:
                checked.problems.append(Problem(checked.file, line, full, error_message))
            else:
                checked.notes.append(note)
        else:
            message, guess = about_unknown_key(checked.kind, label, str(key), known)
            checked.problems.append(Problem(checked.file, line, full, message))
            if guess is not None:
                checked.refused.add(f"{label}.{guess}")
    return _validated(checked, model, label, values)


def _validated(
    checked: CheckedFile, model: type[Section], label: str, values: dict[str, Any]
) -> Section:
    """A section of values, with the defaults of those that it refuses."""
    known = keys_of(model)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if not detail["loc"]:
                checked.refused.add(label)
                text = broken_rule(detail)
                checked.problems.append(checked.problem(label, text, about_value=False))
                return model()
            key = str(detail["loc"][0])
            full = f"{label}.{key}"
            if full not in checked.refused:
                checked.refused.add(full)
                checked.problems.append(checked.problem(full, instead(detail, known[key])))
            values.pop(key, None)
    try:
        return model.model_validate(values)
    except ValidationError:  # a rule between keys, of which some are not as they were given
        return model()
