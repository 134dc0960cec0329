"""Steps of a run, each done as a whole or not at all, and the snapshots between them.

Owns the snapshots in ``restart/``: when one is written, and how a run is put back to one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fhi_al.active_learning import snapshot
from fhi_al.active_learning.progress import Progress
from fhi_al.active_learning.restart import Continuation, misfit
from fhi_al.active_learning.snapshot import MemberSets, Saved, SavedInputs
from fhi_al.active_learning.training_rounds import TrainingRounds
from fhi_al.active_learning.upgrades import given_by_older_program
from fhi_al.labels.completion_log import CompletionLog
from fhi_al.labels.serial_queue import LabelQueue
from fhi_al.process.soft_stop import Stopped
from fhi_al.report import clock
from fhi_al.report.clock import Clock
from fhi_al.report.journal import Journal
from fhi_al.storage.checkpoint import write_snapshot

log = logging.getLogger(__name__)

# Of the wall time that snapshots may take, unless one is wanted after every step.
LARGEST_SHARE = 0.01


class StopRequest(Protocol):
    """Whether the run was asked to stop."""

    def reason(self) -> str | None:
        """Why to stop; None if there is no request."""
        ...

    def check(self) -> None:
        """Raise Stopped if there is a reason."""
        ...


@dataclass(frozen=True, eq=False)
class Snapshots:
    """Writes a run's snapshots, and puts the run back to one.

    Parameters
    ----------
    folder : Path
        ``restart/``.
    inputs : SavedInputs
        What the run was started with, for a later launch to compare its own with.
    progress : Progress
    training : TrainingRounds
        With the ensemble.
    labels : LabelQueue
    completion_log : CompletionLog
    journal, clock : Journal, Clock
    written : callable
        Called with the files of each snapshot.
    """

    folder: Path
    inputs: SavedInputs
    progress: Progress
    training: TrainingRounds
    labels: LabelQueue
    completion_log: CompletionLog
    journal: Journal
    clock: Clock
    written: Callable[[dict[str, bytes]], None] = lambda files: None

    def restore(self, before: Continuation | None) -> None:
        """Continue from a snapshot, or begin if there is none.

        Raises
        ------
        SnapshotError, LabelStoreError
            If the weights in it do not fit the settings, or a label is missing.
        """
        if before is None:
            self.journal.cut(0)
        else:
            self._restore(before)

    def write(self) -> None:
        """Write a snapshot of the run as it is."""
        with self.clock.section(clock.SNAPSHOTS):
            self.progress.update(
                seconds=self.clock.seconds(),
                label_failures_in_row=self.labels.validator.failures_in_row,
                given=tuple(self.labels.validator.given),
                events=self.completion_log.n_records,
            )
            files = snapshot.pack(self._to_save(), self.inputs)
            self.labels.validator.store.require_in_place()
            write_snapshot(self.folder, files)
            self.written(files)

    def _restore(self, before: Continuation) -> None:
        for change in before.changes:
            log.info("changed since the snapshot: %s", change)
        try:
            self._take_over(snapshot.unpack(before.files), before.has_new_learning_rate)
        except (ValueError, KeyError) as error:
            raise misfit(self.folder, str(error)) from error
        self.clock.continue_from(self.progress.state.seconds)
        log.info("continuing from the snapshot in %s: %s", self.folder, self.progress.state.stage)

    def _take_over(self, saved: Saved, has_new_learning_rate: bool) -> None:
        progress, ensemble, store = (
            self.progress,
            self.training.ensemble,
            self.labels.validator.store,
        )
        progress.state, progress.live = saved.state, list(saved.live)
        progress.best_weights = dict(saved.best_weights)
        for member, sets in zip(ensemble.members, saved.sets, strict=True):
            member.add_training([store.label(key) for key in sets.training])
            member.add_validation([store.label(key) for key in sets.validation])
        ensemble.load_state_bytes(saved.member_states)
        self.labels.validator.failures_in_row = saved.state.label_failures_in_row
        given = saved.state.given
        if given is None:
            given = given_by_older_program(saved.state, store)
        self.labels.validator.given = dict.fromkeys(given)
        self.completion_log.n_records = saved.state.events
        if has_new_learning_rate:
            # Whoever changes it wants another course anyway.
            for member in ensemble.members:
                if not member.in_second_stage:  # whose rate is swa_lr
                    member.fresh_optimizer(scheduler=member.has_scheduler)
            progress.update(training_failures_in_row=())
            log.info("TRAINING.lr was changed: every member's optimizer starts afresh")
        self.journal.cut(saved.journal_bytes)

    def _to_save(self) -> Saved:
        sets = [
            MemberSets(
                training=tuple(label.key for label in member.training),
                validation=tuple(label.key for label in member.validation),
            )
            for member in self.training.ensemble.members
        ]
        return Saved(
            state=self.progress.state,
            live=self.progress.live,
            sets=sets,
            member_states=self.training.member_states(),
            best_weights=self.progress.best_weights,
            journal_bytes=self.journal.length(),
        )


class Steps:
    """The steps of a run.

    Parameters
    ----------
    snapshots : Snapshots
    stop : StopRequest
    interval_s : float or None
        Wall seconds between two snapshots; 0 for one after every step, None for none at all.
    """

    def __init__(self, snapshots: Snapshots, stop: StopRequest, interval_s: float | None) -> None:
        self._snapshots = snapshots
        self._progress = snapshots.progress
        self._stop = stop
        self._interval_s = interval_s
        self._saved_at = time.monotonic()
        self._save_took_s = 0.0

    @property
    def must_stop(self) -> bool:
        """Whether the run was asked to stop."""
        return self._stop.reason() is not None

    @contextmanager
    def step(self) -> Iterator[None]:
        """A step that is done as a whole or not at all; then a snapshot, if one is due.

        A label queue that is asked to stop raises before it calculates: the state and the
        trajectories are put back to the beginning of the step (labels and weights have not changed
        until then).

        Raises
        ------
        Stopped
            If the run was asked to stop; after a snapshot was written.
        """
        progress, completion_log = self._progress, self._snapshots.completion_log
        validator = self._snapshots.labels.validator
        state, live = progress.state, list(progress.live)
        kept = [trajectory.kept() for trajectory in live]
        n_records, given = completion_log.n_records, dict(validator.given)
        try:
            yield
        except Stopped:
            progress.state, progress.live = state, live
            for trajectory, before in zip(live, kept, strict=True):
                trajectory.put_back(before)
            completion_log.n_records, validator.given = n_records, given
            self.save(now=True)
            raise
        self.save(now=self.must_stop)
        self._stop.check()

    def save(self, *, now: bool = False) -> None:
        """Write a snapshot if ``now`` or if one is due."""
        if self._interval_s is None or not (now or self._is_due(self._interval_s)):
            return
        # Now, so that it is not booked as the snapshot's cost.
        self._snapshots.training.ensemble.build()
        started = time.monotonic()
        self._snapshots.write()
        self._saved_at = time.monotonic()
        self._save_took_s = self._saved_at - started

    def _is_due(self, interval_s: float) -> bool:
        if interval_s > 0:
            # Large models on a slow disk: snapshots then come less often, not at a higher price.
            interval_s = max(interval_s, self._save_took_s / LARGEST_SHARE)
        return time.monotonic() - self._saved_at >= interval_s
