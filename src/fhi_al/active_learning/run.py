"""The wired parts of a run on rank 0, and what every procedure does with them: train, log, save.

Holds no decisions: those are in ``core``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fhi_al.active_learning import snapshot
from fhi_al.active_learning.restart import Continuation, misfit
from fhi_al.active_learning.snapshot import Inputs, MemberSets, Saved
from fhi_al.core.label import Label
from fhi_al.core.run_state import RunState
from fhi_al.core.structure import Structure
from fhi_al.labels.completion_log import CompletionLog
from fhi_al.labels.serial_queue import LabelQueue
from fhi_al.labels.store import LabelStore
from fhi_al.md.driver import Driver
from fhi_al.md.integrators import MDConditions
from fhi_al.md.walker import Walker
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.predictor import Predictor
from fhi_al.models.training import TrainingPool, TrainingRound
from fhi_al.process.soft_stop import SoftStop, Stopped
from fhi_al.report import clock
from fhi_al.report.clock import Clock
from fhi_al.report.export import Exporter
from fhi_al.report.journal import Journal
from fhi_al.settings import Settings
from fhi_al.storage.checkpoint import write_snapshot

log = logging.getLogger(__name__)

# Of the wall time that snapshots may take, unless one is asked for after every step.
LARGEST_SHARE = 0.01


@dataclass(frozen=True, eq=False)
class Background:
    """A training visit under way.

    Parameters
    ----------
    training : TrainingVisit
    members : tuple of int
    n_epochs : int
    weights : dict
        Member -> its weights before the visit, to go back to if it diverges.
    states : dict
        In the background: files of the members' states before the visit, which is what a snapshot
        holds meanwhile; a resumed run begins the visit again.
    """

    training: TrainingRound
    members: tuple[int, ...]
    n_epochs: int
    weights: dict[int, dict[str, Any]]
    states: dict[str, bytes]


@dataclass
class Run:
    """Everything a procedure works with.

    Parameters
    ----------
    folder : Path
        The run's folder.
    settings : Settings
    systems : tuple of Structure
        One per geometry.in.
    conditions : tuple of MDConditions
        One per MD block.
    store, labels : LabelStore, LabelQueue
    ensemble, training : Ensemble, TrainingPool
    sampling_driver : callable
        (MD step) -> Driver of the initial dataset's trajectory.
    driver : callable
        (system, md) -> Driver that is advanced together with others.
    predictor : Predictor
        Of the ensemble's forces in MD.
    completion_log : CompletionLog
        Of what the label queue finishes in the background.
    journal, clock, export, soft_stop : Journal, Clock, Exporter, SoftStop
    threads : int
        Of each rank that trains; the last bits depend on it.
    idle : callable
        Lines that say which rank had nothing to do, and how long.
    close : callable
        Ends what goes on in the background and gives everything back.
    state : RunState
    walkers : list of Walker
        The trajectories of the stage under way.
    best_weights : dict
        Member -> weights of its lowest validation error in the convergence under way.
    background : Background or None
        The training visit under way beside the sampling of the initial dataset.
    """

    folder: Path
    settings: Settings
    systems: tuple[Structure, ...]
    conditions: tuple[MDConditions, ...]
    store: LabelStore
    labels: LabelQueue
    ensemble: Ensemble
    training: TrainingPool
    sampling_driver: Callable[[int], Driver]
    driver: Callable[[int, int], Driver]
    predictor: Predictor
    completion_log: CompletionLog
    journal: Journal
    clock: Clock
    export: Exporter
    soft_stop: SoftStop
    threads: int
    idle: Callable[[], list[str]]
    close: Callable[[], None]
    state: RunState = field(default_factory=RunState)
    walkers: list[Walker] = field(default_factory=list)
    best_weights: dict[int, dict[str, Any]] = field(default_factory=dict)
    background: Background | None = None
    _saved_at: float = field(default_factory=time.monotonic)
    _save_took_s: float = 0.0

    @property
    def restart(self) -> Path:
        """Folder of the state to continue from."""
        return self.folder / "restart"

    def restore(self, found: Continuation | None) -> None:
        """Continue from a snapshot, or begin if there is none.

        Raises
        ------
        SnapshotError, LabelStoreError
            If the weights in it do not fit the settings, or a label is missing.
        """
        if found is None:
            self.journal.cut(0)
        else:
            self._restore(found)
        if not self.labels.overlaps:  # the record may be of a time when they did
            self.completion_log.discard_rest()

    def _restore(self, found: Continuation) -> None:
        for change in found.changes:
            log.info("changed since the snapshot: %s", change)
        try:
            self._take_over(snapshot.unpack(found.files), found.has_new_learning_rate)
        except (ValueError, KeyError) as error:
            raise misfit(self.restart, str(error)) from error
        self.clock.continue_from(self.state.seconds)
        log.info("continuing from the snapshot in %s: %s", self.restart, self.state.stage)

    def _take_over(self, saved: Saved, has_new_learning_rate: bool) -> None:
        self.state, self.walkers = saved.state, list(saved.walkers)
        for member, sets in zip(self.ensemble.members, saved.sets, strict=True):
            member.add_training([self.store.label(key) for key in sets.training])
            member.add_validation([self.store.label(key) for key in sets.validation])
        self.ensemble.load_state_bytes(saved.member_states)
        self.best_weights = dict(saved.best_weights)
        self.labels.validator.failures_in_row = self.state.label_failures_in_row
        self.completion_log.n_records = self.state.events
        if has_new_learning_rate:
            # Whoever changes it wants another course anyway.
            for member in self.ensemble.members:
                member.fresh_optimizer(scheduler=member.has_scheduler)
            self.state = replace(self.state, training_failures_in_row=())
            log.info("TRAINING.lr was changed: every member's optimizer starts afresh")
        self.journal.cut(saved.journal_bytes)

    @contextmanager
    def step(self) -> Iterator[None]:
        """A step that is done as a whole or not at all; then a snapshot, if one is due.

        A label queue that is asked to stop raises before it calculates: the state and the walkers
        are put back to the beginning of the step (labels and weights have not changed until then).

        Raises
        ------
        Stopped
            If the run was asked to stop; after a snapshot was written.
        """
        state, walkers = self.state, [walker.copy() for walker in self.walkers]
        n_records = self.completion_log.n_records
        try:
            yield
        except Stopped:
            self.state, self.walkers = state, walkers
            self.completion_log.n_records = n_records
            self.save(now=True)
            raise
        self.save(now=self.soft_stop.reason() is not None)
        self.soft_stop.check()

    def save(self, *, now: bool = False) -> None:
        """Write a snapshot if ``now`` or if one is due."""
        if not self.settings.misc.create_restart or not (now or self._snapshot_is_due()):
            return
        self.ensemble.build()  # now, so that it is not booked as the snapshot's cost
        started = time.monotonic()
        with self.clock.section(clock.SNAPSHOTS):
            self.state = replace(
                self.state,
                seconds=self.clock.seconds(),
                label_failures_in_row=self.labels.validator.failures_in_row,
                events=self.completion_log.n_records,
            )
            files = snapshot.pack(self._to_save(), self._inputs())
            self.store.require_in_place()
            write_snapshot(self.restart, files)
            self.export.checkpoints(self.ensemble, files)
        self._saved_at = time.monotonic()
        self._save_took_s = self._saved_at - started

    def _to_save(self) -> Saved:
        return Saved(
            state=self.state,
            walkers=self.walkers,
            sets=[
                MemberSets(
                    training=tuple(label.key for label in member.training),
                    validation=tuple(label.key for label in member.validation),
                )
                for member in self.ensemble.members
            ],
            member_states=(
                self.background.states if self.background else self.ensemble.state_bytes()
            ),
            best_weights=self.best_weights,
            journal_bytes=self.journal.length(),
        )

    def _inputs(self) -> Inputs:
        return Inputs(self.systems, self.settings.values(), self.threads)

    def _snapshot_is_due(self) -> bool:
        interval_s = float(self.settings.misc.snapshot_interval)
        if interval_s > 0:
            # Large models on a slow disk: snapshots then come less often, not at a higher price.
            interval_s = max(interval_s, self._save_took_s / LARGEST_SHARE)
        return time.monotonic() - self._saved_at >= interval_s

    def advance_background(self) -> bool:
        """A little of the visit in the background; False if there is nothing for this rank."""
        if self.background is None or self.background.training.is_finished:
            return False
        with self.clock.section(clock.TRAINING):
            self.background.training.advance()
        return not self.background.training.is_idle

    def add_point(self, label: Label, *, to_validation: bool) -> None:
        """Add one label to the same set of every member."""
        for member in self.ensemble.members:
            (member.add_validation if to_validation else member.add_training)([label])
