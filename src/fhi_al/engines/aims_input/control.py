"""control.in as the user wrote it, every line verbatim, and where its species blocks are.

Text only.  A reader that knows all keywords would lose those it does not know: this one knows
species blocks.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fhi_al.engines.aims_input.errors import AimsInputError
from fhi_al.engines.aims_input.text import lines_of, read_text, real, tokens_of

# What may stand in a species block.  FHI-aims ends a block at the first keyword that may not, and
# reads on: general keywords can follow the last block.
IN_BLOCK = re.compile(
    r"^(nucleus|mass|element|l_hartree|cut_\w+|basis_\w+|prodbas_acc|max_n_prodbas|max_l_prodbas"
    r"|radial_\w+|angular\w*|division|outer_grid|innermost_max|logarithmic|core|core_states"
    r"|valence|ion_occ|confined|ionic|hydro|gaussian|aux_gaussian|sto|for_aux|include_min_basis"
    r"|pure_gauss\w*|plus_u\w*|hubbard_coefficient|hirshfeld_param|pseudo|pp_\w+|nonlinear_core"
    r"|[+-]?[\d.].*)$"
)


@dataclass(frozen=True)
class SpeciesBlock:
    """A species block.

    Parameters
    ----------
    name : str
    nucleus : int
        Atomic number.
    first_line, last_line : int
        Where it is in the file, from 1.
    mass : float or None
        In u, where it says one.
    """

    name: str
    nucleus: int
    first_line: int
    last_line: int
    mass: float | None = None


@dataclass(frozen=True)
class Control:
    """A control.in, its lines untouched.

    Parameters
    ----------
    path : Path
        Where it was read, for messages.
    lines : tuple of str
        Every line of the file, verbatim.
    species : tuple of SpeciesBlock
        The blocks in the file, in order.
    """

    path: Path
    lines: tuple[str, ...]
    species: tuple[SpeciesBlock, ...]

    @property
    def nuclei(self) -> dict[str, int]:
        """Atomic number of each species with a block in the file."""
        return {block.name: block.nucleus for block in self.species}

    def keywords(self) -> Iterator[tuple[int, str, list[str]]]:
        """Line number, keyword in lower case and values of every line that has any."""
        for number, line in enumerate(self.lines, start=1):
            words = tokens_of(line)
            if words:
                yield number, words[0].lower(), words[1:]


def read_control(path: Path) -> Control:
    """Read a control.in.

    Raises
    ------
    AimsInputError
        If it is no text file, is empty, or a species block in it has no usable ``nucleus``.
    """
    return parse_control(read_text(path), path)


def parse_control(text: str, path: Path) -> Control:
    """As :func:`read_control`, from text; ``path`` is for messages."""
    lines = tuple(lines_of(text, path))
    if not any(tokens_of(line) for line in lines):
        raise AimsInputError(path, None, "is empty", "expected FHI-aims keywords")
    starts = [index for index, line in enumerate(lines) if tokens_of(line)[:1] == ["species"]]
    blocks = [
        _species_block(path, lines, start, end)
        for start, end in itertools.pairwise([*starts, len(lines)])
    ]
    return Control(path, lines, tuple(blocks))


def _species_block(path: Path, lines: Sequence[str], start: int, end: int) -> SpeciesBlock:
    name = tokens_of(lines[start])[1:2]
    if not name:
        raise AimsInputError(path, start + 1, "species without a name", "expected `species NAME`")
    for index in range(start, end):
        words = tokens_of(lines[index])
        if words[:1] == ["nucleus"]:
            last = max(i for i in range(start, end) if _is_in_block(lines[i]))
            value = "".join(words[1:2])
            number = float(value) if re.fullmatch(r"\d+(\.0*)?", value) else 0.0
            if not 1 <= number <= 118:
                raise AimsInputError(
                    path, index + 1, f"nucleus {value}", "expected a whole atomic number"
                )
            mass = _mass(path, lines, start, last + 1)
            return SpeciesBlock(name[0], int(number), start + 1, last + 1, mass)
    raise AimsInputError(
        path, start + 1, f"species {name[0]} has no nucleus", "expected a line `nucleus Z` in it"
    )


def _mass(path: Path, lines: Sequence[str], start: int, end: int) -> float | None:
    mass = None
    for index in range(start, end):
        words = tokens_of(lines[index])
        if words[:1] == ["mass"]:
            mass = real("".join(words[1:2]))
            if mass is None or not 0.0 < mass < math.inf:
                what = " ".join(words[:2])
                raise AimsInputError(path, index + 1, what, "expected a mass in u, above zero")
    return mass


def _is_in_block(line: str) -> bool:
    words = tokens_of(line)
    return bool(words) and bool(IN_BLOCK.match(words[0]))
