"""What a run is at: made from its state, for those who watch it; decides nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fhi_al.core.final_test import n_blocks
from fhi_al.core.label import Label
from fhi_al.core.run_state import RunState, Stage
from fhi_al.labels.records import Record
from fhi_al.labels.store import LabelStore
from fhi_al.report.clock import TRAINING, Clock
from fhi_al.report.status import Bar, RankStatus, Status, time_left

IMPORTED = "imported"  # phase of labels that the user brought


@dataclass(frozen=True)
class Targets:
    """Where the settings let a run end.

    Parameters
    ----------
    force_mae : float
        In eV/A; 0: none.
    label_budget : int or None
    points_per_round : int
        Of the initial dataset, of all members.
    max_initial_epochs, max_final_epochs : int
    max_md_steps : int or None
        Of each trajectory.
    converges : bool
        Whether active learning is followed by a convergence.
    fewest_atoms : int
        Of the smallest system.
    """

    force_mae: float
    label_budget: int | None
    points_per_round: int
    max_initial_epochs: int
    max_final_epochs: int
    max_md_steps: int | None
    converges: bool
    fewest_atoms: int


def bars_of(state: RunState, n_computed: int, targets: Targets) -> tuple[Bar, ...]:
    """How far the stage under way has come."""
    return tuple(_bars(state, n_computed, targets))


def _bars(state: RunState, n_computed: int, targets: Targets) -> Iterator[Bar]:
    stage, sampling, active = state.stage, state.sampling, state.active
    labels = Bar("labels", n_computed, targets.label_budget)
    if stage is Stage.INITIAL_SAMPLING:
        n_points = len(sampling.points) + len(sampling.pending)
        if n_points > 0 or not sampling.helped:  # else training goes on without new ones
            name = f"sampling, round {sampling.rounds + 1}"
            yield Bar(name, n_points, targets.points_per_round, ends_stage=False)
        yield Bar("labels", n_computed, targets.label_budget, ends_stage=False)
        yield Bar("epochs", sampling.epochs, targets.max_initial_epochs)
    elif stage in (Stage.INITIAL_CONVERGENCE, Stage.FINAL_CONVERGENCE):
        epoch = state.convergence.course.epoch if state.convergence else 0
        yield Bar("epochs", epoch, targets.max_final_epochs)
    elif stage is Stage.ACTIVE_LEARNING and active is not None:
        n_steps = sum(each.step for each in active.trajectories)
        most = targets.max_md_steps
        yield Bar("MD steps", n_steps, most and most * len(active.trajectories))
        yield labels
        yield Bar("epochs", active.epochs, ends_stage=False)
    elif stage is Stage.FINAL_TEST and state.final_test is not None:
        test = state.final_test
        most = n_blocks(test.n_labels, len(test.trajectories), targets.fewest_atoms)
        yield Bar("blocks of MD", test.blocks, most, ends_stage=False)
        yield Bar("labels of the test", len(test.labelled), test.n_labels)


def labels_of(state: RunState, records: Sequence[Record]) -> dict[str, int]:
    """Numbers of labels."""
    pending = state.sampling.pending if state.active is None else state.active.pending
    by_phase: Counter[str] = Counter(record.origin.phase for record in records)
    n_imported = by_phase.pop(IMPORTED, 0)
    return {
        "computed": by_phase.total(),
        "discarded": sum(not isinstance(record, Label) for record in records),
        "imported": n_imported,
        "waiting": len(pending),
        **by_phase,
    }


def force_mae_of(state: RunState) -> float | None:
    """The members' mean validation force MAE in eV/A, as last measured; None before."""
    if state.final_mae_forces is not None and state.stage in (Stage.FINAL_TEST, Stage.DONE):
        return state.final_mae_forces
    if state.convergence is not None:
        found: float | None = state.convergence.course.forces.best
    elif state.active is not None:
        found = state.active.mae_forces
    else:
        found = state.sampling.mae_forces
    return found if found is not None and math.isfinite(found) else None


def epochs_of(state: RunState) -> int:
    """Epochs trained so far, in all stages that the state knows of."""
    active = state.active.epochs if state.active else 0
    convergence = state.convergence.course.epoch if state.convergence else 0
    return state.sampling.epochs + active + convergence


class TimeLeft:
    """How long a run takes at most, by what was measured in this launch."""

    def __init__(self) -> None:
        self._stage: Stage | None = None
        self._since = 0.0
        self._begun: dict[str, int] = {}
        self._epochs: int | None = None

    def seconds(
        self, state: RunState, bars: Sequence[Bar], targets: Targets, clock: Clock, now: float
    ) -> float | None:
        """Of the stage under way, and of the convergence that follows active learning.

        Parameters
        ----------
        state : RunState
        bars : sequence of Bar
        targets : Targets
        clock : Clock
        now : float
            In s, from any time on.
        """
        if self._epochs is None:
            self._epochs = epochs_of(state)
        if state.stage is not self._stage:
            self._stage, self._since = state.stage, now
            self._begun = {bar.name: bar.done for bar in bars}
        left = time_left(bars, self._begun, now - self._since)
        if state.stage is Stage.DONE:
            return 0.0
        if left is None:
            return None
        if state.stage is Stage.ACTIVE_LEARNING and targets.converges:
            n_epochs = epochs_of(state) - self._epochs
            if n_epochs <= 0:
                return None
            training_s = clock.in_this_launch()[TRAINING]
            left += targets.max_final_epochs * training_s / n_epochs
        return left


@dataclass(frozen=True, eq=False)
class StatusSource:
    """Makes the status of a run, from whatever thread.

    Parameters
    ----------
    state : callable
        () -> RunState, as it is now.
    store : LabelStore
    clock : Clock
    targets : Targets
    ranks : callable
        () -> what each rank does.
    time_left : TimeLeft
    """

    state: Callable[[], RunState]
    store: LabelStore
    clock: Clock
    targets: Targets
    ranks: Callable[[], tuple[RankStatus, ...]]
    time_left: TimeLeft

    def status(self, now: float) -> Status:
        """What the run is at, at a time in s."""
        # Made at once: the run's own thread may add a label meanwhile.
        state, records = self.state(), tuple(self.store)
        labels = labels_of(state, records)
        bars = bars_of(state, labels["computed"], self.targets)
        test = state.errors.test if state.errors is not None else None
        return Status(
            stage=str(state.stage),
            activity=self.clock.activity,
            bars=bars,
            labels=labels,
            force_mae=force_mae_of(state),
            target_force_mae=self.targets.force_mae,
            true_force_mae=test.mae_forces if test is not None and test.n_points else None,
            ranks=self.ranks(),
            seconds=self.clock.seconds(),
            time_left_s=self.time_left.seconds(state, bars, self.targets, self.clock, now),
        )
