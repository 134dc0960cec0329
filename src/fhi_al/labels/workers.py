"""What computes labels in parallel mode: groups of MPI ranks, jobs on a cluster, or rank 0 itself.

Imports numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from fhi_al.core.errors import EngineError
from fhi_al.core.structure import Array
from fhi_al.engines.engine import ReferenceResult


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
    result : ReferenceResult or str or EngineError
        Not yet judged; or, in words, why there will be none for this structure; or an error that
        the next structure would meet too.
    seconds : float
        Wall time of the calculation.
    """

    key: str
    result: ReferenceResult | str | EngineError
    seconds: float


class Workers(Protocol):
    """Compute structures, most of them several at a time while the caller does other things.

    Attributes
    ----------
    in_background : bool
        Whether jobs that are begun are computed while the caller does other things; else
        ``collect`` computes them.
    ends_soon : bool
        Whether jobs under way end by themselves within a calculation's time, so that a run that
        ends may wait for them; jobs in a cluster's queue do not.
    """

    in_background: bool
    ends_soon: bool

    def n_free(self) -> int:
        """How many more jobs may be begun now."""
        ...

    def can_begin(self, system: int) -> bool:
        """Whether a job of a system may be begun now: not all may be able to compute it."""
        ...

    def begin(self, job: Job) -> None:
        """Begin a job that can be begun; returns at once."""
        ...

    def collect(self) -> list[Finished]:
        """The jobs that have come to an end since the last call; in the background, at once."""
        ...

    def busy_seconds(self) -> dict[int, float]:
        """Rank of this job -> seconds it has spent in calculations that are finished."""
        ...

    def close(self) -> None:
        """Give everything back; no job is under way any more, or it may be given up."""
        ...
