"""Wire what shows runs and commands while they go on: status.json, bars on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fhi_al.core.run_state import Stage
from fhi_al.parallel.layout import RankPlacement, ranges
from fhi_al.process.soft_stop import Stopped
from fhi_al.report.clock import WAITING
from fhi_al.report.logs import terminal_log_through
from fhi_al.report.observer import INTERVAL_S, Display, Observer
from fhi_al.report.run_status import StatusSource, Targets, TimeLeft
from fhi_al.report.status import RankStatus, Status
from fhi_al.report.status_file import Launch, Outcome, StatusFile
from fhi_al.report.summary import busy_shares
from fhi_al.settings import Settings

if TYPE_CHECKING:
    from fhi_al.active_learning.run import Run
    from fhi_al.app.build import Assembled
    from fhi_al.app.label_supply import LabelSupply, Surroundings
    from fhi_al.app.process_set_up import Process
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
        As for :func:`watched`.
    """
    run = assembled.run
    mace = settings.mace
    assert mace is not None
    layout, placements = assignment.layout, assignment.placements
    launch = Launch(command, mace.general.name_exp, len(placements), time.time())
    source = StatusSource(
        state=lambda: run.state,
        store=run.store,
        clock=run.report.clock,
        targets=_targets(settings, min(map(len, run.dynamics.systems))),
        ranks=lambda: ranks_at_work(placements, layout.roles, assembled.busy()),
        time_left=TimeLeft(),
    )
    with watched(source.status, StatusFile(run.folder, launch), bars, lambda: _ending(run)):
        yield


@contextmanager
def watched(
    status: Callable[[float], Status],
    file: StatusFile,
    bars: bool | None,
    ending: Callable[[], str],
) -> Iterator[None]:
    """Show a status until the block ends, and how it ends.

    Parameters
    ----------
    status : callable
        (time in s) -> Status; asked from another thread.
    file : StatusFile
    bars : bool or None
        Whether standard output shows progress bars; None: where it is a terminal.
    ending : callable
        () -> what is said of a block that ends without an error.
    """
    displays: list[Display] = [StatusWriter(file)]
    with ExitStack() as shown:
        if sys.stdout.isatty() if bars is None else bars:
            displays.append(shown.enter_context(_bars()))
        observer = Observer(status, displays)
        observer.start()
        try:
            yield
        except Stopped as stopped:
            observer.close("stopped", f"{stopped}; the same command continues")
            raise
        except BaseException as error:
            observer.close("failed", _first_line(error))
            raise
        observer.close("finished", ending())


@contextmanager
def _bars() -> Iterator[Display]:
    """Progress bars on the terminal, with log lines above them."""
    # Late: where no terminal is, nothing is imported.
    from fhi_al.report.terminal_bars import TerminalBars

    bars = TerminalBars(sys.stdout)
    with terminal_log_through(bars.write):
        yield bars


def _targets(settings: Settings, fewest_atoms: int) -> Targets:
    al = settings.al
    return Targets(
        force_mae=al.desired_acc,
        label_budget=al.label_budget,
        points_per_round=al.n_samples * al.ensemble_size,
        max_initial_epochs=al.max_initial_epochs,
        max_final_epochs=al.max_final_epochs,
        max_md_steps=al.max_MD_steps,
        converges=al.converge_al,
        fewest_atoms=fewest_atoms,
    )


def ranks_at_work(
    placements: Sequence[RankPlacement], roles: Callable[[int], str], shares: Sequence[float]
) -> tuple[RankStatus, ...]:
    """What each rank does; equal neighbours together.

    Parameters
    ----------
    placements : sequence of RankPlacement
    roles : callable
        (rank) -> what it does, in words.
    shares : sequence of float
        Of its time in which each had work.
    """
    found: list[tuple[tuple[str, str, float], list[int]]] = []
    for rank, placement in enumerate(placements):
        same = (roles(rank), placement.host, round(shares[rank], 2))
        if found and found[-1][0] == same:
            found[-1][1].append(rank)
        else:
            found.append((same, [rank]))
    return tuple(RankStatus(ranges(ranks), *same) for same, ranks in found)


def ranks_that_label(
    process: Process, around: Surroundings, supply: LabelSupply
) -> tuple[RankStatus, ...]:
    """What each rank does where labels are all there is.

    Parameters
    ----------
    process : Process
    around : Surroundings
        Of the labels.
    supply : LabelSupply
    """
    layout, seconds = around.layout, around.stopwatch.in_this_launch()
    wall_s = sum(seconds.values())
    shares = busy_shares(layout, wall_s, wall_s - seconds[WAITING], [supply.busy_seconds()])
    return ranks_at_work(process.placements, layout.roles_for_labels, shares)


def _ending(run: Run) -> str:
    if run.state.stage is Stage.DONE:
        return run.state.stop_reason
    return f"up to here: {run.state.stage}"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
