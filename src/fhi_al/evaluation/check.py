"""What a physical check is given, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ase import Atoms

from fhi_al.core.structure import Structure
from fhi_al.evaluation.limits import Judgement
from fhi_al.evaluation.surfaces import Surface
from fhi_al.md.atoms import atoms_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class Subject:
    """A system that physics is looked at of.

    Parameters
    ----------
    name : str
    structure : Structure
    temperature : float
        In K.
    timestep : float
        In fs.
    reference : Surface or None
        The engine's; None if it is not to be asked.
    """

    name: str
    structure: Structure
    temperature: float
    timestep: float
    reference: Surface | None = None

    def atoms(self) -> Atoms:
        """Free to move."""
        atoms = atoms_of(self.structure)
        atoms.set_constraint()
        return atoms


@dataclass(frozen=True, eq=False)
class Finding:
    """What a check found of a system.

    Parameters
    ----------
    check, system : str
    lines : sequence of str
        In words.
    values : mapping
        For JSON.
    judgements : sequence of Judgement
    panels : mapping
        Name of a figure -> what draws it.
    """

    check: str
    system: str
    lines: Sequence[str]
    values: Mapping[str, Any] = field(default_factory=dict)
    judgements: Sequence[Judgement] = ()
    panels: Mapping[str, Callable[[Axes], None]] = field(default_factory=dict)
