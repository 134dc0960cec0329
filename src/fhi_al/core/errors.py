"""Errors that every layer may raise and the commands know how to report."""

from __future__ import annotations


class EngineError(RuntimeError):
    """The engine cannot go on: broken, or set up wrongly.  Raised on all its ranks alike."""


class InputError(Exception):
    """The inputs are wrong.

    Parameters
    ----------
    problems : list of str
        One message each: where, what, what was expected, how to fix it.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
