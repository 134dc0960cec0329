"""A broken rule between keys of a settings file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Clash:
    """A broken rule.

    Parameters
    ----------
    labels : tuple of str
        The keys it is about; the first one is shown, with its line.
    message : str
    about_value : bool
        Whether the value of the first key belongs in the message.
    """

    labels: tuple[str, ...]
    message: str
    about_value: bool = True
