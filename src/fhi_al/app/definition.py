"""What a run is, before anything is wired: settings, structures, and objects of the user's own.

A folder's files and Python objects (see ``api``) both make one; all that follows is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fhi_al.app import checks
from fhi_al.core.structure import Array
from fhi_al.md.integrator import Integrator
from fhi_al.settings import Settings, read_settings


@dataclass(frozen=True, eq=False)
class Objects:
    """Python objects in place of what the settings would name.

    Parameters
    ----------
    uncertainty : callable or None
        Of the members' forces, (n_members, n_atoms, 3) in eV/A.
    integrator : callable or None
        See :class:`fhi_al.md.conditions.MDConditions`.
    """

    uncertainty: Callable[[Array], float] | None = None
    integrator: Callable[..., Any] | None = None

    def names(self) -> dict[str, str]:
        """What they are called, by their part; saved with a run, which continues with the same."""
        given = {
            "uncertainty": self.uncertainty,
            "integrator": self.integrator,
        }
        return {part: "none" if one is None else name_of(one) for part, one in given.items()}


def name_of(given: object) -> str:
    """Module and name of a function, of an integrator's first, or of the class of an object."""
    if isinstance(given, Integrator):
        given = given.first_half
    named: Any = given if hasattr(given, "__qualname__") else type(given)
    return f"{named.__module__}.{named.__qualname__}"


@dataclass(frozen=True, eq=False)
class Definition:
    """What a run is.

    Parameters
    ----------
    folder : Path
        Absolute.
    settings : Settings
    inputs : Inputs
        Structures; control.in where the engine needs one, or the engine itself.
    objects : Objects
    """

    folder: Path
    settings: Settings
    inputs: checks.Inputs
    objects: Objects = field(default_factory=Objects)

    def values(self) -> dict[str, Any]:
        """What another launch must have in common with this one, by key, as JSON can hold it."""
        names = self.objects.names()
        return self.settings.values() | {f"PYTHON.{part}": name for part, name in names.items()}


def definition_of(workdir: Path, given: Sequence[str] = ()) -> Definition:
    """The run that a folder's files define, not yet checked as a whole.

    Parameters
    ----------
    workdir : Path
    given : sequence of str
        Keys of the command line, ``SECTION.key=value``, in place of those of the files.

    Raises
    ------
    SettingsError, InputError
        With all problems found in the files.
    """
    folder = workdir.resolve()
    settings = read_settings(folder, given=given)
    return Definition(folder, settings, checks.read_inputs(settings))
