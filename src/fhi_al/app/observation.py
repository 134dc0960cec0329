"""Wire what shows a run while it goes on: status.json."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fhi_al.core.run_state import Stage
from fhi_al.parallel.layout import ranges
from fhi_al.process.soft_stop import Stopped
from fhi_al.report.logs import terminal_log_through
from fhi_al.report.observer import INTERVAL_S, Display, Observer
from fhi_al.report.status import RankStatus, Status, StatusSource, Targets, TimeLeft
from fhi_al.report.status_file import Launch, Outcome, StatusFile
from fhi_al.settings import Settings

if TYPE_CHECKING:
    from fhi_al.active_learning.run import Run
    from fhi_al.app.build import Assembled
    from fhi_al.app.rank_assignment import RankAssignment


@dataclass(frozen=True, eq=False)
class StatusWriter:
    """Shows a status in the file ``status.json``."""

    file: StatusFile
    interval_s: float = INTERVAL_S

    def show(self, status: Status) -> None:
        """Write it."""
        self.file.write(status, "running")

    def end(self, status: Status, outcome: Outcome, message: str) -> None:
        """Write the last one."""
        self.file.write(status, outcome, message)


@contextmanager
def observed(
    assembled: Assembled,
    settings: Settings,
    assignment: RankAssignment,
    command: str,
    bars: bool | None = None,
) -> Iterator[None]:
    """On rank 0: show what a run is at until the block ends, and how it ends.

    Parameters
    ----------
    assembled : Assembled
    settings : Settings
    assignment : RankAssignment
    command : str
    bars : bool or None
        Whether standard output shows progress bars; None: where it is a terminal.
    """
    run = assembled.run
    mace = settings.mace
    assert mace is not None
    n_ranks = len(assignment.placements)
    launch = Launch(command, mace.general.name_exp, n_ranks, time.time())
    source = StatusSource(
        state=lambda: run.state,
        store=run.store,
        clock=run.report.clock,
        targets=_targets(settings),
        ranks=lambda: _ranks(assembled, assignment),
        time_left=TimeLeft(),
    )
    displays: list[Display] = [StatusWriter(StatusFile(run.folder, launch))]
    with ExitStack() as shown:
        if sys.stdout.isatty() if bars is None else bars:
            displays.append(shown.enter_context(_bars()))
        observer = Observer(source.status, displays)
        observer.start()
        try:
            yield
        except Stopped as stopped:
            observer.close("stopped", f"{stopped}; the same command continues")
            raise
        except BaseException as error:
            observer.close("failed", _first_line(error))
            raise
        observer.close("finished", _ending(run))


@contextmanager
def _bars() -> Iterator[Display]:
    """Progress bars on the terminal, with log lines above them."""
    # Late: where no terminal is, nothing is imported.
    from fhi_al.report.terminal_bars import TerminalBars

    bars = TerminalBars(sys.stdout)
    with terminal_log_through(bars.write):
        yield bars


def _targets(settings: Settings) -> Targets:
    al = settings.al
    return Targets(
        force_mae=al.desired_acc,
        label_budget=al.label_budget,
        points_per_round=al.n_samples * al.ensemble_size,
        max_initial_epochs=al.max_initial_epochs,
        max_final_epochs=al.max_final_epochs,
        max_md_steps=al.max_MD_steps,
        converges=al.converge_al,
    )


def _ranks(assembled: Assembled, assignment: RankAssignment) -> tuple[RankStatus, ...]:
    """Equal neighbours together."""
    shares = assembled.busy()
    found: list[tuple[tuple[str, str, float], list[int]]] = []
    for rank, placement in enumerate(assignment.placements):
        same = (assignment.layout.roles(rank), placement.host, round(shares[rank], 2))
        if found and found[-1][0] == same:
            found[-1][1].append(rank)
        else:
            found.append((same, [rank]))
    return tuple(RankStatus(ranges(ranks), *same) for same, ranks in found)


def _ending(run: Run) -> str:
    if run.state.stage is Stage.DONE:
        return run.state.stop_reason
    return f"up to here: {run.state.stage}"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
