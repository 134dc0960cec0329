"""The wired parts of a run on rank 0, and what every procedure does with them: train, log, save.

Holds no decisions: those are in ``core``.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from fhi_al.checkpoint import write_snapshot
from fhi_al.core.label import Label
from fhi_al.core.run_state import RunState
from fhi_al.core.structure import Structure
from fhi_al.dataset import LabelStore
from fhi_al.md.driver import Driver, MDConditions
from fhi_al.md.walker import Walker
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.mace_adapter.training import ForceErrors
from fhi_al.models.training import EpochRecord, TrainingPool
from fhi_al.procedures import snapshot
from fhi_al.procedures.continuing import Continuation, misfit
from fhi_al.procedures.errors import TrainingFailure
from fhi_al.reference.label_pool import LabelPool
from fhi_al.report import clock
from fhi_al.report.clock import Clock
from fhi_al.report.error_table import error_words, mean
from fhi_al.report.export import Exporter
from fhi_al.report.journal import Journal
from fhi_al.settings import Settings
from fhi_al.soft_stop import SoftStop, Stopped

log = logging.getLogger(__name__)

# Of the wall time that snapshots may take, unless one is asked for after every step.
LARGEST_SHARE = 0.01


@dataclass(frozen=True)
class Visit:
    """What a training visit gave.

    Parameters
    ----------
    maes : list of float
        Validation force MAE of each member, in eV/A.
    loss : float
        Mean training loss of the members in the last epoch.
    words : str
        Loss and errors for the log.
    """

    maes: list[float]
    loss: float
    words: str

    @property
    def mae(self) -> float:
        """Mean validation force MAE of the members, in eV/A."""
        return mean(self.maes)


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
    store, labels : LabelStore, LabelPool
    ensemble, training : Ensemble, TrainingPool
    sampling_driver : callable
        (MD step) -> Driver of the initial dataset's trajectory.
    driver : callable
        (system, md, member or None) -> Driver on the ensemble's mean or one member's forces.
    journal, clock, export, soft_stop : Journal, Clock, Exporter, SoftStop
    state : RunState
    walkers : list of Walker
        The trajectories of the stage under way.
    best_weights : dict
        Member -> weights of its lowest validation error in the convergence under way.
    """

    folder: Path
    settings: Settings
    systems: tuple[Structure, ...]
    conditions: tuple[MDConditions, ...]
    store: LabelStore
    labels: LabelPool
    ensemble: Ensemble
    training: TrainingPool
    sampling_driver: Callable[[int], Driver]
    driver: Callable[[int, int, int | None], Driver]
    journal: Journal
    clock: Clock
    export: Exporter
    soft_stop: SoftStop
    close: Callable[[], None]
    state: RunState = field(default_factory=RunState)
    walkers: list[Walker] = field(default_factory=list)
    best_weights: dict[int, bytes] = field(default_factory=dict)
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
            return
        for change in found.changes:
            log.info("changed since the snapshot: %s", change)
        try:
            snapshot.unpack(self, found.files)
        except (ValueError, KeyError) as error:
            raise misfit(self.restart, str(error)) from error
        self.clock.continue_from(self.state.seconds)
        log.info("continuing from the snapshot in %s: %s", self.restart, self.state.stage)

    @contextmanager
    def step(self) -> Iterator[None]:
        """A step that is done as a whole or not at all; then a snapshot, if one is due.

        A label pool that is asked to stop raises before it calculates: the state and the walkers
        are put back to the beginning of the step (labels and weights have not changed until then).

        Raises
        ------
        Stopped
            If the run was asked to stop; after a snapshot was written.
        """
        state, walkers = self.state, [walker.copy() for walker in self.walkers]
        try:
            yield
        except Stopped:
            self.state, self.walkers = state, walkers
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
                label_failures_in_row=self.labels.failures_in_row,
            )
            files = snapshot.pack(self)
            self.store.require_in_place()
            write_snapshot(self.restart, files)
            self.export.checkpoints(self.ensemble, files)
        self._saved_at = time.monotonic()
        self._save_took_s = self._saved_at - started

    def _snapshot_is_due(self) -> bool:
        interval_s = float(self.settings.misc.snapshot_interval)
        if interval_s > 0:
            # Large models on a slow disk: snapshots then come less often, not at a higher price.
            interval_s = max(interval_s, self._save_took_s / LARGEST_SHARE)
        return time.monotonic() - self._saved_at >= interval_s

    def train(self, phase: str, epoch: int, n_epochs: int, members: Sequence[int]) -> Visit:
        """Train members, journal every epoch, and return their last validation errors.

        A member whose loss, weights or validation error are no longer finite goes back to the
        weights it had, with a fresh optimizer.

        Parameters
        ----------
        phase : str
            Name under which the epochs are journalled.
        epoch : int
            Epochs trained in this phase before.
        n_epochs : int
        members : sequence of int

        Returns
        -------
        Visit

        Raises
        ------
        TrainingFailure
            If fewer than two members of the ensemble are healthy.
        """
        with self.clock.section(clock.TRAINING):
            before = {index: self.ensemble.members[index].weights() for index in members}
            records = self.training.begin(members, n_epochs).finish()
            failures = list(self.state.training_failures_in_row or [0] * len(self.ensemble))
            for index in members:
                diverged = self._undo_if_diverged(index, before[index], records)
                failures[index] = failures[index] + 1 if diverged else 0
            self.state = replace(self.state, training_failures_in_row=tuple(failures))
            self._require_an_ensemble(failures)
            errors = [self.ensemble.members[index].validate() for index in members]
        self._journal_epochs(phase, epoch, records)
        loss = mean([record.loss for record in records if record.epoch == n_epochs])
        visit = Visit([e.mae_forces for e in errors], loss, self._in_words(loss, errors))
        self.journal.add(
            "ensemble",
            phase=phase,
            epoch=epoch + n_epochs,
            n_training=len(self.ensemble.members[0].training),
            n_validation=len(self.ensemble.members[0].validation),
            training_loss=loss,
            mae_forces=visit.mae,
        )
        return visit

    def _undo_if_diverged(self, index: int, weights: bytes, records: Sequence[EpochRecord]) -> bool:
        member = self.ensemble.members[index]
        losses = [record.loss for record in records if record.member == index]
        if (
            all(map(math.isfinite, losses))
            and member.is_finite()
            and math.isfinite(member.validate().mae_forces)
        ):
            return False
        member.set_weights(weights)
        member.fresh_optimizer(scheduler=member.has_scheduler)
        log.warning(
            "member %d: training diverged (losses %s); back to the weights before, with a fresh "
            "optimizer. If this goes on, lower TRAINING.lr",
            index,
            ", ".join(f"{loss:.3g}" for loss in losses),
        )
        return True

    def _require_an_ensemble(self, failures_in_row: Sequence[int]) -> None:
        limit = self.settings.al.max_training_failures
        ill = [index for index, failures in enumerate(failures_in_row) if failures >= limit]
        if len(failures_in_row) - len(ill) < 2:
            raise TrainingFailure(
                f"training: members {', '.join(map(str, ill))} diverged in {limit} visits in a row "
                "(max_training_failures), fewer than two healthy ones are left: expected losses "
                "and weights that stay finite. Lower TRAINING.lr or set TRAINING.clip_grad (both "
                "may change in this folder), look at the largest forces in the labels, then run "
                "again."
            )

    def _in_words(self, loss: float, errors: Sequence[ForceErrors]) -> str:
        """Loss and errors, averaged over the members, as MISC.error_table wants them."""
        assert self.settings.mace is not None
        n_atoms = max(len(system) for system in self.systems)
        return f"loss {loss:.4g}, " + error_words(
            self.settings.mace.misc.error_table, errors, n_atoms
        )

    def _journal_epochs(self, phase: str, epoch: int, records: Sequence[EpochRecord]) -> None:
        for record in records:
            member = self.ensemble.members[record.member]
            errors = record.errors
            self.journal.add(
                "epoch",
                phase=phase,
                member=member.index,
                member_name=self.export.member_name(member.index),
                epoch=epoch + record.epoch,
                n_training=len(member.training),
                n_validation=len(member.validation),
                learning_rate=record.learning_rate,
                training_loss=record.loss,
                validation_loss=errors.loss if errors else None,
                mae_forces=errors.mae_forces if errors else None,
                rmse_forces=errors.rmse_forces if errors else None,
                mae_energy_per_atom=errors.mae_energy_per_atom if errors else None,
                rmse_energy_per_atom=errors.rmse_energy_per_atom if errors else None,
            )

    def add_point(self, label: Label, *, to_validation: bool) -> None:
        """Add one label to the same set of every member."""
        for member in self.ensemble.members:
            (member.add_validation if to_validation else member.add_training)([label])
