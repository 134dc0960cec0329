"""Objects that are named in settings: built-in ones, entry points of packages, import paths."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path
from typing import Any

from fhi_al.settings.problems import nearest


def names(group: str, built_in: Mapping[str, str]) -> list[str]:
    """All that can be named: built-in names and those of installed packages."""
    return sorted({*built_in, *of_packages(group).names})


def of_packages(group: str) -> EntryPoints:
    """The entry points of a group, of the packages that are installed now."""
    return _found(group, tuple((folder, _changed(folder)) for folder in sys.path))


# The metadata of a hundred packages take 15 ms to read, and settings ask several times.
@lru_cache(maxsize=8)
def _found(group: str, folders: tuple[tuple[str, int], ...]) -> EntryPoints:
    return entry_points(group=group)


def _changed(folder: str) -> int:
    """When something was installed in a folder or taken away (ns); 0 if there is no such folder."""
    try:
        return Path(folder or ".").stat().st_mtime_ns
    except OSError:
        return 0


def named(group: str, name: str, built_in: Mapping[str, str]) -> Any:
    """The object of a name.

    Parameters
    ----------
    group : str
        Of entry points, such as ``fhi_al.models``.
    name : str
        Of a built-in object or an entry point, or the import path ``package.module:name``.
    built_in : mapping
        Name -> import path.  These need no entry point: metadata may be missing or old.

    Raises
    ------
    ValueError
        If there is no such name, or its code cannot be imported: what was expected.
    """
    if name in built_in:
        return imported(built_in[name])
    for point in of_packages(group).select(name=name):
        return imported(point.value)
    if ":" in name:
        return imported(name)
    known = names(group, built_in)
    guess = nearest(name, known)
    hint = f"Did you mean {guess}?" if guess else f"Expected one of {', '.join(known)}"
    raise ValueError(f"unknown. {hint}, or an import path such as package.module:Name")


def imported(path: str) -> Any:
    """The object at an import path ``package.module:name``.

    Raises
    ------
    ValueError
        If it cannot be imported.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(import_module(module), name)
    except Exception as error:  # whatever its code does
        raise ValueError(
            f"{path} cannot be imported ({type(error).__name__}: {error}): expected"
            " package.module:name of an installed package, or of one on PYTHONPATH"
        ) from error
