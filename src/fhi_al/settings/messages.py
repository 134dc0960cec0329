"""What is said of a section, key or value that a settings file must not have; the best guess."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from fhi_al.settings import retired
from fhi_al.settings.keys import FILE_NAMES, LAYOUTS, keys_of, sections_of
from fhi_al.settings.problems import nearest, shown

_BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}


def about_unknown_section(kind: str, word: str) -> tuple[str, str | None]:
    """What to say about a section that a file does not have, and the section it was taken for."""
    start = f"unknown section {word}"
    for file, sections in LAYOUTS.items():
        if word in sections:
            return f"{start}. It belongs in {FILE_NAMES[file]}.", None
    for file in _own_first(kind):
        for section, model in sections_of(file).items():
            for key in keys_of(model):
                if key.casefold() == word.casefold():
                    of_file = "" if file == kind else f" of {FILE_NAMES[file]}"
                    place = f"section {section}{of_file}"
                    return f"{start}: {key} is a key. It belongs in {place}.", None
    guess = nearest(word, LAYOUTS[kind])
    if guess is not None:
        return f"{start}. Did you mean {guess}?", guess
    return f"{start}. Expected {', '.join(LAYOUTS[kind])}.", None


def about_unknown_key(
    kind: str, label: str, key: str, known: Mapping[str, FieldInfo]
) -> tuple[str, str | None]:
    """What to say about a key that the section does not have, and the key it was taken for."""
    start = f"unknown key {label}.{key}. "
    synonym = retired.OTHER_NAMES.get(key.casefold())
    if synonym in known:
        return f"{start}Did you mean {synonym}?", synonym
    by_folded = {name.casefold(): name for name in known}
    if key.casefold() in by_folded:
        guess = by_folded[key.casefold()]
        return f"{start}Did you mean {guess}?", guess
    for file in _own_first(kind):
        for section, model in sections_of(file).items():
            if key in keys_of(model):
                place = section if file == kind else f"{section} of {FILE_NAMES[file]}"
                return f"{start}It belongs in {place}.", None
    near = nearest(key, known)
    if near is not None:
        return f"{start}Did you mean {near}?", near
    for file in _own_first(kind):
        for section, model in sections_of(file).items():
            other = nearest(key, keys_of(model))
            if other is not None:
                place = section if file == kind else f"{section} of {FILE_NAMES[file]}"
                return f"{start}Did you mean {other} in {place}?", None
    return f"{start}docs/reference/settings.md lists all keys of {label}.", None


def broken_rule(detail: ErrorDetails) -> str:
    """What a rule between the keys of a section says, in the words of its ValueError."""
    return str(detail.get("ctx", {}).get("error", detail["msg"]))


def instead(detail: ErrorDetails, info: FieldInfo) -> str:
    """What was expected instead of a value that a field refused, and what to try."""
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    unit = f" {extra['unit']}" if extra.get("unit") else ""
    if detail["type"] in _BOUNDS:
        name, word = _BOUNDS[detail["type"]]
        message = f"must be {word} {detail['ctx'][name]:.12g}{unit}"
    else:
        message = detail["msg"]
    attempt = extra.get("try")
    if attempt is None and isinstance(info.default, (bool, int, float)):
        attempt = info.default
    # It says already what to write.
    if attempt is None or any(word in message for word in ("Did you mean", "supported", "MD step")):
        return message
    return f"{message}. Try {shown(attempt)}"


def sentence(text: str) -> str:
    """A text that ends as a sentence does."""
    return text if text.endswith(("?", ".")) else f"{text}."


def _own_first(kind: str) -> list[str]:
    return sorted(LAYOUTS, key=lambda name: name != kind)
