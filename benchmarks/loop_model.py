"""A model of the active-learning loop in time: who is busy when.  No MPI, no physics, seeded.

Rank 0 goes through sweeps as ``active_learning.sweep`` does and uses the same rules (``core``):
what a trajectory does next, the threshold, the split.  Durations are given, uncertainties drawn.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from loop_inputs import Durations, Layout, Workload

from fhi_al.core.split import goes_to_validation
from fhi_al.core.threshold import MovingAverage, ThresholdRule, crosses, observed, threshold
from fhi_al.core.trajectory import (
    Checked,
    Event,
    LabelAccepted,
    Limits,
    Moved,
    Status,
    Trained,
    TrajectoryState,
    after,
    block_length,
)

MD, CHECKS, TRAINING, EXTRA = "MD", "checks", "training", "extra training"
LABELS, MESSAGES, BOOKKEEPING = "labels", "messages", "bookkeeping"
ACTIVITIES = (MD, CHECKS, TRAINING, EXTRA, LABELS, MESSAGES, BOOKKEEPING)


@dataclass
class Outcome:
    """What came of a simulated run: times in seconds.

    ``busy`` is rank 0's time by activity, ``dft_s`` the sum over all groups, ``turnaround_s`` the
    mean from asking for a label to its point joining the sets.
    """

    layout: Layout
    wall_s: float = 0.0
    dft_s: float = 0.0
    n_labels: int = 0
    sweeps: int = 0
    turnaround_s: float = 0.0
    busy: dict[str, float] = field(default_factory=lambda: dict.fromkeys(ACTIVITIES, 0.0))

    @property
    def labels_per_hour(self) -> float:
        """Labels that joined the sets, per hour of wall time."""
        return 3600.0 * self.n_labels / self.wall_s

    @property
    def rank0_s(self) -> float:
        """Rank 0's time for anything but DFT."""
        return sum(self.busy.values())

    @property
    def rank0_busy(self) -> float:
        """Share of the wall time that rank 0 was at something."""
        return self.rank0_s / self.wall_s

    @property
    def groups_busy(self) -> float:
        """Share of the wall time that a group computed, mean over the groups."""
        return self.dft_s / (self.layout.groups * self.wall_s)

    @property
    def ideal_s(self) -> float:
        """Wall time of the same work with everything overlapped: max(DFT, ML)."""
        return max(self.dft_s / self.layout.groups, self.rank0_s)


def simulate(durations: Durations, workload: Workload, layout: Layout, seed: int = 0) -> Outcome:
    """Run the loop until ``n_labels`` points have joined, or all trajectories are done.

    Raises
    ------
    RuntimeError
        If everybody would wait for ever.
    """
    return _Loop(durations, workload, layout, seed).run()


class _Loop:
    def __init__(self, durations: Durations, work: Workload, layout: Layout, seed: int) -> None:
        self._times, self._work, self._layout = durations, work, layout
        self._limits = Limits(work.max_md_steps, work.max_epochs_worker, 1)
        self._rule = ThresholdRule(work.c_x, work.threshold_warmup)
        self._history = MovingAverage()
        self._states = [TrajectoryState(k) for k in range(work.num_trajectories)]
        # Streams of each trajectory's own: what is drawn does not depend on who comes first.
        self._uncertainties = [_stream(seed, 0, k) for k in range(work.num_trajectories)]
        self._efforts = [_stream(seed, 1, k) for k in range(work.num_trajectories)]
        self._now = 0.0
        self._queue: deque[int] = deque()
        self._under_way: list[tuple[float, int]] = []  # heap of (end, trajectory)
        self._arrived: list[int] = []
        self._asked_at: dict[int, float] = {}
        self._n_asked = self._n_points = self._n_validation = self._n_extra = 0
        self._n_training = work.n_training
        self._out = Outcome(layout)

    def run(self) -> Outcome:
        """Sweep until it is over."""
        while self._n_points < self._work.n_labels and not self._all_over():
            before = self._now, self._n_asked
            moved = self._move()
            if not self._layout.parallel:
                self._compute_in_turn()
            took_in = self._take_in()
            trained = self._train()
            self._out.sweeps += 1
            # MD that costs nothing and asks for nothing would go on for ever at the same time.
            moved = moved and (before != (self._now, self._n_asked) or not self._under_way)
            if not (moved or took_in or trained):
                self._while_all_wait()
        self._out.wall_s, self._out.n_labels = self._now, self._n_points
        # Of labels under way, what was computed of them.
        self._out.dft_s -= sum(max(0.0, end_s - self._now) for end_s, _ in self._under_way)
        self._out.turnaround_s /= max(1, self._n_points)
        return self._out

    def _all_over(self) -> bool:
        return all(state.status.is_over for state in self._states)

    def _with_status(self, status: Status) -> list[TrajectoryState]:
        return [state for state in self._states if state.status is status]

    def _tell(self, index: int, event: Event) -> None:
        self._states[index], _ = after(self._states[index], event, self._limits)

    def _move(self) -> bool:
        running = self._with_status(Status.RUNNING)
        for state in running:
            n_steps = block_length(state, self._work.skip_step_mlff, self._limits)
            self._busy(MD, n_steps * self._times.md_step_s, self._times.md_step_s)
            self._tell(state.index, Moved(n_steps))
        for state in running:
            self._check(state.index)
        self._step_done()
        return bool(running)

    def _check(self, index: int) -> None:
        self._busy(CHECKS, self._times.check_s)
        spread = self._work.uncertainty_log_sd * self._uncertainties[index].standard_normal()
        uncertainty = math.exp(spread)
        self._history = observed(self._history, uncertainty, self._rule.window)
        has_room = self._work.asks_on or self._n_asked < self._work.n_labels
        crossed = has_room and crosses(uncertainty, threshold(self._history, self._rule))
        self._tell(index, Checked(crossed))
        if crossed:
            self._n_asked += 1
            self._asked_at[index] = self._now
            self._queue.append(index)
            self._look()

    def _compute_in_turn(self) -> None:
        while self._queue:
            index = self._queue.popleft()
            self._spend(MESSAGES, self._layout.ranks_per_group * self._times.send_s)
            self._now += self._times.nap_s + self._effort(index)
            self._spend(LABELS, self._times.label_s)
            self._arrived.append(index)

    def _take_in(self) -> bool:
        arrived, self._arrived = self._arrived, []
        for index in arrived:
            to_validation = goes_to_validation(
                self._n_validation, self._n_points, self._work.valid_ratio
            )
            self._n_points += 1
            self._n_validation += to_validation
            self._n_training += self._work.grows and not to_validation
            self._n_extra = 0
            self._out.turnaround_s += self._now - self._asked_at[index]
            self._tell(index, LabelAccepted(to_validation))
            self._step_done()
        return bool(arrived)

    def _train(self) -> bool:
        training = self._with_status(Status.TRAINING)
        for state in training:
            left = self._work.max_epochs_worker - state.epochs
            n_epochs = min(self._work.intermediate_epochs, left)
            self._training_round(TRAINING, n_epochs)
            self._tell(state.index, Trained(n_epochs))
            self._step_done()
        return bool(training)

    def _training_round(self, activity: str, n_epochs: int) -> None:
        """Members are assigned round-robin: rank 0 has the most, the others are done when it is."""
        times, n_members = self._times, self._work.ensemble_size
        mine = math.ceil(n_members / self._layout.training_ranks)
        batch_s = times.epoch_point_s * min(self._work.batch_size, self._n_training)
        self._busy(activity, mine * n_epochs * times.epoch_point_s * self._n_training, batch_s)
        if self._layout.training_ranks > 1:
            self._busy(MESSAGES, times.nap_s + (n_members - mine) * times.state_s)

    def _while_all_wait(self) -> None:
        if self._n_extra < self._work.extra_rounds:
            self._n_extra += 1
            self._training_round(EXTRA, self._work.intermediate_epochs)
        elif self._under_way:
            self._now = self._under_way[0][0] + self._times.nap_s
            self._look()
        elif not self._arrived:
            raise RuntimeError("the simulated run waits for nothing")

    def _step_done(self) -> None:
        self._busy(BOOKKEEPING, len(self._states) * self._times.copy_s)

    def _spend(self, activity: str, seconds: float) -> None:
        self._now += seconds
        self._out.busy[activity] += seconds

    def _busy(self, activity: str, seconds: float, slice_s: float = math.inf) -> None:
        """Rank 0 works, and looks after the groups at the end of each slice."""
        left = seconds
        while left > 0.0:
            part = left
            if self._under_way and slice_s < left:
                # No need to stop at slices during which nothing ends.
                n_slices = math.ceil((self._under_way[0][0] - self._now) / slice_s)
                part = min(left, max(1, n_slices) * slice_s)
            self._spend(activity, part)
            left -= part
            self._look()

    def _look(self) -> None:
        """Labels that are finished to the disk, then structures to the groups that are free."""
        if not self._layout.parallel:
            return
        while True:
            if self._under_way and self._under_way[0][0] <= self._now:
                self._arrived.append(heapq.heappop(self._under_way)[1])
                self._spend(LABELS, self._times.label_s)
            elif self._queue and len(self._under_way) < self._layout.groups:
                self._spend(MESSAGES, self._layout.ranks_per_group * self._times.send_s)
                index = self._queue.popleft()
                end_s = self._now + self._times.nap_s + self._effort(index)
                heapq.heappush(self._under_way, (end_s, index))
            else:
                return

    def _effort(self, index: int) -> float:
        """Seconds of DFT of a trajectory's next label."""
        spread = self._times.dft_log_sd * self._efforts[index].standard_normal()
        seconds = self._times.dft_s * math.exp(spread)
        self._out.dft_s += seconds
        return seconds


def _stream(seed: int, purpose: int, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, purpose, index])
