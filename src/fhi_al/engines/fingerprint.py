"""What decides the value of a label besides the geometry, in a few characters.  Reads no files.

What means the same has the same fingerprint: comments, blanks, the spelling of numbers and
logicals, and the order of keywords that do not depend on each other make no difference.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fhi_al.core.structure import Structure
from fhi_al.engines.aims_input.control import parse_control
from fhi_al.engines.aims_input.geometry import Geometry
from fhi_al.engines.aims_input.stress import KEYWORD, NUMERICAL
from fhi_al.engines.aims_input.text import tokens_of

# In front of every fingerprint; those of programs before have nothing there.
VERSION = "2-"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d+)?")
_LOGICAL = re.compile(r"\.(true|false)\.", re.IGNORECASE)


class Identified(Protocol):
    """What has a fingerprint."""

    def identity(self) -> Any:
        """What decides the value of a label besides the geometry: numbers, texts, lists, mappings.

        Where files lie and how fast it runs do not.
        """
        ...

    def older_identity(self) -> Sequence[str] | None:
        """What was hashed of it before there were versions; None if there was nothing like it."""
        ...

    def identity_before_stress(self) -> Any | None:
        """What programs without stress gave as identity, where it was another; else None."""
        ...

    @property
    def older_note(self) -> str:
        """What is to be known of labels that older programs stored; empty if there is nothing."""
        ...


@dataclass(frozen=True)
class Fingerprint:
    """Of the engine of one system.

    Parameters
    ----------
    value : str
    older : tuple of str
        What older programs called the same engine.
    older_note : str
        What is to be known of labels that those stored; may be empty.
    system : str
        Name of the system, for messages; empty where it has none.
    """

    value: str
    older: tuple[str, ...] = ()
    older_note: str = ""
    system: str = field(default="", compare=False)

    def matches(self, stored: str) -> bool:
        """Whether a label with a stored fingerprint is of this engine."""
        return stored == self.value or stored in self.older


def fingerprint(spec: Identified, system: str = "") -> Fingerprint:
    """The fingerprint of the engine of one system, which may have a name."""
    value = _of_identity(spec.identity())
    before = _of_identity(spec.identity_before_stress() or spec.identity())
    same = () if before == value else (before,)
    part = spec.older_identity()
    if part is None:
        return Fingerprint(value, same, system=system)
    old = hashlib.sha256("\0".join(part).encode()).hexdigest()[:16]
    return Fingerprint(value, (*same, old), spec.older_note, system)


def identity_number(spec: Identified, *, stress: bool) -> int:
    """A number that names an engine for one system, and whether its labels have a stress.

    Equal where labels of a geometry would be; below 2^63.
    """
    text = f"{fingerprint(spec).value}{' with stress' if stress else ''}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _of_identity(identity: Any) -> str:
    # A list, as when a run had one value for all of its systems.
    content = json.dumps([plain(identity)], sort_keys=True)
    return VERSION + hashlib.sha256(content.encode()).hexdigest()[:16]


def plain(value: Any) -> Any:
    """A value as JSON has it; numbers that are equal become the same."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, int | float | np.number):
        return float(value)
    return repr(value)


def of_system(system: Structure) -> dict[str, Any]:
    """What of a system decides the value of a label besides positions and cell."""
    return {
        "numbers": system.numbers,
        "pbc": system.pbc,
        "moments": system.initial_moments,
        "charges": system.initial_charges,
    }


def of_system_before(system: Structure) -> list[str]:
    """As older programs hashed it, none of which asked for a stress."""
    parts = [repr(system.numbers.tolist()), repr(system.pbc), repr(False)]
    return [
        *parts,
        repr(system.initial_moments.tolist()),
        repr(system.initial_charges.tolist()),
    ]


def of_aims_inputs(control: str, geometry: Geometry, stress_lines: bool = False) -> dict[str, Any]:
    """What a complete control.in and the tags of geometry.in mean.

    General keywords in alphabetical order, those of one name in their own; the species blocks that
    the geometry uses line by line, since the order of basis functions shows in the last bits.

    Parameters
    ----------
    control : str
    geometry : Geometry
    stress_lines : bool
        Whether asking for a stress makes a difference: it does not change energy and forces.
    """
    parsed = parse_control(control, Path("control.in"))
    in_blocks: set[int] = set()
    species: dict[str, list[list[str]]] = {}
    for block in parsed.species:
        numbers = range(block.first_line, block.last_line + 1)
        in_blocks.update(numbers)
        if block.name in geometry.species:
            lines = [line_content(parsed.lines[number - 1]) for number in numbers]
            # Electrons do not know the mass.
            species[block.name] = [line for line in lines if line and line[0] != "mass"]
    general = [
        content
        for number, line in enumerate(parsed.lines, start=1)
        if number not in in_blocks
        and (content := line_content(line))
        and (stress_lines or content[0] not in (KEYWORD, NUMERICAL))
    ]
    return {
        "control": sorted(general, key=lambda content: content[0]),
        "species": species,
        "atoms": geometry.species,
        "tags of atoms": [list(map(line_content, lines)) for lines in geometry.atom_lines],
        "tags of vectors": [list(map(line_content, lines)) for lines in geometry.vector_lines],
        "tags": [line_content(line) for line in geometry.other_lines],
        **of_system(geometry.structure),
    }


def of_aims_inputs_before(control: str, geometry: Geometry) -> list[str]:
    """As older programs hashed it, without the system."""
    parts = [control.replace(f"{KEYWORD} .true.\n", ""), repr(geometry.species)]
    parts += [repr(geometry.atom_lines), repr(geometry.other_lines)]
    if any(geometry.vector_lines):
        parts += [repr(geometry.vector_lines)]
    return parts


def line_content(line: str) -> list[str]:
    """The words of a line of FHI-aims' input, each in one spelling; empty for a comment."""
    words = tokens_of(line)
    return [words[0].lower(), *map(_one_spelling, words[1:])] if words else []


def _one_spelling(word: str) -> str:
    if _NUMBER.fullmatch(word):
        return repr(float(re.sub("[dD]", "e", word)))
    return word.lower() if _LOGICAL.fullmatch(word) else word
