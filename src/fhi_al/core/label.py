"""A label: one structure with its reference energy and forces.  Pure: numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fhi_al.core.structure import Array

# See fhi_al.core.displaced.
DISPLACED_KINDS = ("rattled", "strained", "volume", "dimer", "vacancy")
# Of other atoms than the system that MD moves: they teach, and judge nothing.
DERIVED_KINDS = ("dimer", "vacancy")
Phase = Literal["initial", "active_learning", "sanity", "test", "imported", "file"]


@dataclass(frozen=True)
class Origin:
    """Where a label was requested.

    Parameters
    ----------
    phase : str
    trajectory, step : int
        Index of the trajectory, and its MD step; of a file's structures ("imported" with their
        labels, or "file") the step is the frame.
    md : str
        Name of the MD block that the trajectory runs; empty if that is not known.
    source : str
        Of the initial dataset: what drove the MD; or, of a displaced structure, which is of no
        trajectory and whose step is its number in the list of them, what was done to it (one of
        ``DISPLACED_KINDS``).  Empty where it is not known.
    system : str
        Name of its system; empty if the run has one without a name.
    """

    phase: Phase
    trajectory: int
    step: int
    md: str = ""
    source: str = ""
    system: str = ""

    @property
    def is_displaced(self) -> bool:
        """Whether it is of no trajectory."""
        return self.source in DISPLACED_KINDS

    @property
    def is_derived(self) -> bool:
        """Whether it is of other atoms than any system that MD moves."""
        return self.source in DERIVED_KINDS

    @property
    def place(self) -> str:
        """In words."""
        if self.phase in ("imported", "file"):
            return f"frame {self.step}"
        system = f"system {self.system}, " if self.system else ""
        if self.is_displaced:
            return f"{system}displaced structure {self.step}, {self.source}"
        return f"{system}trajectory {self.trajectory}, MD step {self.step}"

    @property
    def config_type(self) -> str:
        """What a structure from here is called where its file gives no name."""
        if self.phase == "imported":
            return "Default"
        return self.phase if self.phase in ("initial", "test") else "active_learning"


@dataclass(frozen=True, eq=False)
class Label:
    """A reference result that passed the validation.

    Parameters
    ----------
    key : str
        :func:`~fhi_al.core.structure.geometry_key` of the structure; two labels never share one.
    system : int
        Index of the system (geometry.in) the structure belongs to.
    numbers : (n_atoms,)
    positions : (n_atoms, 3)
        In A.
    cell : (3, 3)
        In A; zeros for a molecule.
    pbc : bool
    energy : float
        In eV.
    forces : (n_atoms, 3)
        In eV/A.
    stress : (3, 3) or None
        In eV/A^3, ASE's sign; None if it was not computed.
    origin : Origin
    given_config_type : str or None
        The ``config_type`` that the user's file gives it.
    """

    key: str
    system: int
    numbers: NDArray[np.int64]
    positions: Array
    cell: Array
    pbc: bool
    energy: float
    forces: Array
    stress: Array | None
    origin: Origin
    given_config_type: str | None = None

    @property
    def config_type(self) -> str:
        """The name by which ``config_type_weights`` knows it."""
        return self.given_config_type or self.origin.config_type


def of_systems(labels: Sequence[Label]) -> list[Label]:
    """Labels of the systems that MD moves; all, if there are no such.

    Dimers have forces and energies that nothing in MD comes near: what is averaged is averaged
    without them.
    """
    return [label for label in labels if not label.origin.is_derived] or list(labels)


class LabelSets(Protocol):
    """What has a training and a validation set, as a member of an ensemble has."""

    @property
    def training(self) -> Sequence[Label]:
        """In the order in which they were added."""
        ...

    @property
    def validation(self) -> Sequence[Label]:
        """In the order in which they were added."""
        ...
