"""What computes labels in the background: groups of MPI ranks, or jobs on a cluster.

Imports numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from fhi_al.core.structure import Array
from fhi_al.reference.engine import ReferenceResult


@dataclass(frozen=True, eq=False)
class Job:
    """A structure to be computed.

    Parameters
    ----------
    key : str
        Name of the geometry.
    system : int
    positions : (n_atoms, 3)
        In A.
    cell : (3, 3)
        In A; zeros for a molecule.
    """

    key: str
    system: int
    positions: Array
    cell: Array


@dataclass(frozen=True, eq=False)
class Finished:
    """What became of a job.

    Parameters
    ----------
    key : str
        Of the job.
    result : ReferenceResult or str
        Not yet judged; or, in words, why there will be none for this structure.
    seconds : float
        Wall time of the calculation.
    """

    key: str
    result: ReferenceResult | str
    seconds: float


class Workers(Protocol):
    """Compute several structures at a time while the caller does other things."""

    def n_free(self) -> int:
        """How many more jobs may be begun now."""
        ...

    def begin(self, job: Job) -> None:
        """Begin a job; returns at once.

        Raises
        ------
        EngineError
            If the engine is broken.
        """
        ...

    def collect(self) -> list[Finished]:
        """The jobs that have come to an end since the last call; returns at once.

        Raises
        ------
        EngineError
            If the engine is broken: no other structure would fare better.
        """
        ...

    def last_words(self) -> str:
        """The engines' own last lines; may be empty."""
        ...

    def close(self) -> None:
        """Give everything back; jobs under way are given up."""
        ...
