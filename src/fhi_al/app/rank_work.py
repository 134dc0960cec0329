"""How much each rank of a run has to do."""

from __future__ import annotations

from dataclasses import dataclass

from fhi_al.app.label_supply import LabelSupply
from fhi_al.models.training import TrainingPool
from fhi_al.parallel.layout import Layout
from fhi_al.report import clock
from fhi_al.report.activity import Busy
from fhi_al.report.clock import Clock
from fhi_al.report.summary import busy_shares, idle_shares


@dataclass(frozen=True, eq=False)
class WorkOfRanks:
    """How much of this launch's time each rank had something to do."""

    layout: Layout
    stopwatch: Clock
    supply: LabelSupply
    pool: TrainingPool

    def idle(self) -> list[str]:
        """Lines that say which rank had nothing to do, and how long."""
        return idle_shares(self.layout, *self._seconds())

    def busy(self) -> list[float]:
        """The share of each rank."""
        return busy_shares(self.layout, *self._seconds())

    def seconds(self) -> Busy:
        """Seconds of each rank by its work."""
        return {"labels": self.supply.busy_seconds(), "training": self.pool.busy_seconds()}

    def _seconds(self) -> tuple[float, float, list[dict[int, float]]]:
        """Wall seconds, those with work for rank 0, and those of the others by their work."""
        seconds = self.stopwatch.in_this_launch()
        wall_s = sum(seconds.values())
        return wall_s, wall_s - seconds[clock.WAITING], list(self.seconds().values())
