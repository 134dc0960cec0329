"""The text of FHI-aims' input files, taken apart as Fortran does: lines, words, comments.

Fortran knows fewer separators than Python's ``splitlines`` and ``split``: a record ends at LF, CR
or CR LF (gfortran's formatted reads), a word at a blank or tab.  A form feed, a no-break space or a
U+2028 is a character like any other, to FHI-aims and therefore here.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from fhi_al.engines.aims_input.errors import AimsInputError

LINE_END = re.compile(r"\r\n|\r|\n")
WORD = re.compile(r"[^ \t]+")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d+)?")
# Control characters, blanks and line ends of other alphabets, and what takes no room at all.
INVISIBLE = ("Cc", "Cf", "Zs", "Zl", "Zp")


def read_text(path: Path) -> str:
    """The file's text, without a byte-order mark.

    Raises
    ------
    AimsInputError
        If there is no such file, it cannot be read, or it is not text.
    """
    expected = "expected FHI-aims input in UTF-8"
    try:
        content = path.read_bytes()
    except OSError as error:
        why = error.strerror or str(error)
        raise AimsInputError(path, None, why, "expected an FHI-aims input file") from error
    if b"\0" in content:
        raise AimsInputError(path, None, "is not a text file (or UTF-16)", expected)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(re.findall(rb"\r\n|\r|\n", content[: error.start])) + 1
        fix = "Save the file as UTF-8."
        raise AimsInputError(path, line, "is not UTF-8 text", expected, fix) from error


def lines_of(text: str, path: Path) -> list[str]:
    """The lines of a text, without their ends.

    Parameters
    ----------
    text : str
    path : Path
        Where it was read, for messages.

    Raises
    ------
    AimsInputError
        If a line has a character outside its comment that cannot be seen and is neither a blank
        nor a tab: FHI-aims would take it for a letter, and not know the word.
    """
    lines = LINE_END.split(text)
    if not lines[-1]:
        lines.pop()  # of a text that ends in a line end
    for number, line in enumerate(lines, start=1):
        for character in line.split("#", 1)[0]:
            if character not in " \t" and unicodedata.category(character) in INVISIBLE:
                name = unicodedata.name(character, "a control character")
                raise AimsInputError(
                    path,
                    number,
                    f"U+{ord(character):04X} ({name}) outside a comment",
                    "expected blanks and tabs between words (FHI-aims takes it for a letter)",
                    "Take it out, or put a blank in its place.",
                )
    return lines


def real(word: str) -> float | None:
    """A real number as Fortran reads it (1, .5, 1.0d-3); None if it is none."""
    return float(re.sub("[dD]", "e", word)) if NUMBER.fullmatch(word) else None


def tokens_of(line: str) -> list[str]:
    """The words of a line, its comment taken off."""
    return WORD.findall(line.split("#", 1)[0])
