"""What a run or another command is at, in numbers for those who watch it: data, decides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Bar:
    """How far something has come.

    Parameters
    ----------
    name : str
    done : int
    total : int or None
        None: nobody knows.
    ends_stage : bool
        Whether the stage ends, at the latest, when it is full.
    """

    name: str
    done: int
    total: int | None = None
    ends_stage: bool = True


@dataclass(frozen=True)
class RankStatus:
    """What some ranks do.

    Parameters
    ----------
    ranks : str
        Such as ``1-3``.
    does : str
    host : str
    busy : float
        Share of the time of this launch in which they had work.
    """

    ranks: str
    does: str
    host: str
    busy: float


@dataclass(frozen=True)
class Status:
    """What a run is at, or another command that computes labels.

    Parameters
    ----------
    stage : str
    activity : str
        Of rank 0.
    bars : tuple of Bar
    labels : dict
        Numbers of labels: computed, discarded, waiting, imported, and by what asked for them.
    force_mae : float or None
        Members' mean validation force MAE in eV/A, as last measured.
    target_force_mae : float
        In eV/A; 0: none.
    true_force_mae : float or None
        Of the final test, in eV/A.
    ranks : tuple of RankStatus
    seconds : dict
        Activity -> wall seconds, over all launches.
    time_left_s : float or None
        At most, by what was measured in this launch; None where nothing says.
    trains : bool
        Whether models are trained, whose errors are told.
    of_stage : bool
        Whether the time left is that of the stage, which another one follows.
    """

    stage: str
    activity: str
    bars: tuple[Bar, ...]
    labels: dict[str, int]
    force_mae: float | None
    target_force_mae: float
    true_force_mae: float | None = None
    ranks: tuple[RankStatus, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    time_left_s: float | None = None
    trains: bool = True
    of_stage: bool = False

    def as_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def time_left(bars: Sequence[Bar], begun: Mapping[str, int], elapsed_s: float) -> float | None:
    """Seconds until the first bar that ends the stage is full; None where nothing says.

    Parameters
    ----------
    bars : sequence of Bar
    begun : mapping of str to int
        Where the bars were some time ago, by their names.
    elapsed_s : float
        How long ago.
    """
    ends = [
        (bar.total - bar.done) * elapsed_s / (bar.done - begun[bar.name])
        for bar in bars
        if bar.ends_stage and bar.total is not None and bar.done > begun.get(bar.name, bar.done)
    ]
    return max(0.0, min(ends)) if ends else None
