"""Errors that every layer may raise and the commands know how to report."""

from __future__ import annotations


class EngineError(RuntimeError):
    """The engine cannot go on: broken, or set up wrongly.  Raised on all its ranks alike."""


class CannotCompute(EngineError):
    """The engine can compute no geometry of a system: the inputs are not for it.

    An element, an argument or a number of electrons that it does not take; not an SCF that did not
    converge.
    """


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
