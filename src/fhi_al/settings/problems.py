"""What is wrong with a settings file, said so that it can be fixed.  Pure: no files, no YAML."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing to fix.

    Parameters
    ----------
    file : str
        Name of the settings file, without its folder.
    line : int or None
        Line in it, counted from 1; None if there is no such line (a missing key, a missing file).
    key : str or None
        ``SECTION.key`` as in the file, or None if the problem is not about one key.
    message : str
        What was found, what was expected and how to fix it; names the key.
    """

    file: str
    line: int | None
    key: str | None
    message: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.message}"


class SettingsError(Exception):
    """The settings cannot be used; ``str()`` is the complete message, one line per problem.

    Parameters
    ----------
    problems : iterable of Problem
        Everything that was found, in the order of the files and lines.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def shown(value: object) -> str:
    """A value as a user would write it, shortened to fit on a line."""
    if value is None:
        text = "null"
    elif isinstance(value, bool):
        text = "true" if value else "false"
    else:
        text = str(value)
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like `word`, upper and lower case being the same, or None if none is."""
    by_folded = {candidate.casefold(): candidate for candidate in candidates}
    # 0.6 finds one or two slips in a short key and stays silent on unrelated words.
    found = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None
