"""What ``FHI_AL-label`` and ``FHI_AL-evaluate`` are at, as they say themselves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from fhi_al.core.label import Label
from fhi_al.labels.records import Record
from fhi_al.report.clock import OTHER, Clock
from fhi_al.report.status import Bar, RankStatus, Status, time_left


@dataclass(frozen=True)
class StageProgress:
    """How far a stage has come.

    Parameters
    ----------
    stage : str
    bars : tuple of Bar
    is_last : bool
        Whether the command ends with it.
    begun : mapping of str to int
        Where the bars were when it began, by their names.
    since : float
        When it began, in s of :func:`time.monotonic`.
    """

    stage: str
    bars: tuple[Bar, ...] = ()
    is_last: bool = False
    begun: Mapping[str, int] = field(default_factory=dict)
    since: float = 0.0


class CommandProgress:
    """How far a command has come: told by the thread that works, read by the one that watches.

    Attributes
    ----------
    now : StageProgress
        Replaced as a whole.
    """

    def __init__(self) -> None:
        self.now = StageProgress("starting")

    def begin(self, stage: str, *bars: Bar, is_last: bool = False) -> None:
        """Begin a stage."""
        begun = {bar.name: bar.done for bar in bars}
        self.now = StageProgress(stage, bars, is_last, begun, time.monotonic())

    def reach(self, name: str, done: int) -> None:
        """Set how far the bar of this name is."""
        bars = tuple(replace(b, done=done) if b.name == name else b for b in self.now.bars)
        self.now = replace(self.now, bars=bars)


@dataclass(frozen=True, eq=False)
class CommandStatusSource:
    """Makes the status of a command, from whatever thread.

    Parameters
    ----------
    progress : CommandProgress
    clock : Clock
    records : callable
        () -> the results that count.
    ranks : callable
        () -> what each rank does.
    """

    progress: CommandProgress
    clock: Clock
    records: Callable[[], Iterable[Record]]
    ranks: Callable[[], tuple[RankStatus, ...]]

    def status(self, now: float) -> Status:
        """What the command is at, at a time in s of :func:`time.monotonic`."""
        at, activity = self.progress.now, self.clock.activity
        # Made at once: the command's own thread may add a label meanwhile.
        records = tuple(self.records())
        n_labels = sum(isinstance(record, Label) for record in records)
        return Status(
            stage=at.stage,
            activity=at.stage if activity == OTHER else activity,
            bars=at.bars,
            labels={
                "computed": len(records),
                "discarded": len(records) - n_labels,
                "imported": 0,
                "waiting": 0,
            },
            force_mae=None,
            target_force_mae=0.0,
            ranks=self.ranks(),
            seconds=self.clock.seconds(),
            time_left_s=time_left(at.bars, at.begun, now - at.since),
            trains=False,
            of_stage=not at.is_last,
        )
