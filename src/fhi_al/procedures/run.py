"""The wired parts of a run on rank 0, and what every procedure does with them: train, log, save.

Holds no decisions: those are in ``core``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fhi_al.checkpoint import read_snapshot, write_snapshot
from fhi_al.core.label import Label
from fhi_al.core.run_state import RunState
from fhi_al.core.structure import Structure
from fhi_al.dataset import LabelStore
from fhi_al.md.driver import Driver, MDConditions
from fhi_al.md.walker import Walker
from fhi_al.models.ensemble import Ensemble
from fhi_al.models.training import EpochRecord, TrainingPool
from fhi_al.procedures import snapshot
from fhi_al.reference.label_pool import LabelPool
from fhi_al.report import clock
from fhi_al.report.clock import Clock
from fhi_al.report.export import Exporter
from fhi_al.report.journal import Journal
from fhi_al.settings import Settings

log = logging.getLogger(__name__)


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
    journal, clock, export : Journal, Clock, Exporter
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
    close: Callable[[], None]
    state: RunState = field(default_factory=RunState)
    walkers: list[Walker] = field(default_factory=list)
    best_weights: dict[int, bytes] = field(default_factory=dict)
    _saved_at: float = field(default_factory=time.monotonic)

    @property
    def restart(self) -> Path:
        """Folder of the state to continue from."""
        return self.folder / "restart"

    def restore(self) -> bool:
        """Continue from the newest snapshot; False if there is none.

        Raises
        ------
        SnapshotError, LabelStoreError
            If there is one and it cannot be used.
        """
        files = read_snapshot(self.restart)
        if files is None:
            self.journal.cut(0)
            return False
        snapshot.unpack(self, files)
        self.clock.continue_from(self.state.seconds)
        log.info("continuing from the snapshot in %s: %s", self.restart, self.state.stage)
        return True

    def save(self, *, now: bool = False) -> None:
        """Write a snapshot if ``now`` or if the last one is older than the interval."""
        if not self.settings.misc.create_restart:
            return
        interval_s = self.settings.misc.snapshot_interval
        if not now and time.monotonic() - self._saved_at < interval_s:
            return
        self.state = replace(self.state, seconds=self.clock.seconds())
        files = snapshot.pack(self)
        write_snapshot(self.restart, files)
        self.export.checkpoints(self.ensemble, files)
        self._saved_at = time.monotonic()

    def train(self, phase: str, epoch: int, n_epochs: int, members: Sequence[int]) -> list[float]:
        """Train members, journal every epoch, and return their last validation force MAE.

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
        list of float
            One per member, in eV/A.
        """
        with self.clock.section(clock.TRAINING):
            records = self.training.train(members, n_epochs)
        return self._journal_epochs(phase, epoch, members, records)

    def _journal_epochs(
        self, phase: str, epoch: int, members: Sequence[int], records: Sequence[EpochRecord]
    ) -> list[float]:
        last: dict[int, float] = {}
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
            if errors:
                last[record.member] = errors.mae_forces
        maes = [last[index] for index in members]
        final = [record for record in records if record.epoch == records[-1].epoch]
        self.journal.add(
            "ensemble",
            phase=phase,
            epoch=epoch + records[-1].epoch,
            n_training=len(self.ensemble.members[0].training),
            n_validation=len(self.ensemble.members[0].validation),
            training_loss=mean([record.loss for record in final]),
            mae_forces=mean(maes),
        )
        return maes

    def add_point(self, label: Label, *, to_validation: bool) -> None:
        """Add one label to the same set of every member."""
        for member in self.ensemble.members:
            (member.add_validation if to_validation else member.add_training)([label])


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean of at least one value."""
    return sum(values) / len(values)
