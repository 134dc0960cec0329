"""The parts of a run on rank 0 that the procedures are made from.  Holds no decisions."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fhi_al.active_learning.convergence import Convergence
from fhi_al.active_learning.excess_energy import ExcessEnergy
from fhi_al.active_learning.final_test import FinalTest
from fhi_al.active_learning.held_out import HeldOut
from fhi_al.active_learning.held_out_errors import report_test_errors
from fhi_al.active_learning.initial_data import InitialData
from fhi_al.active_learning.options import LoopOptions
from fhi_al.active_learning.points import mean_initial_energy
from fhi_al.active_learning.predictions import keep_predictions
from fhi_al.active_learning.progress import Progress
from fhi_al.active_learning.propagation import Dynamics
from fhi_al.active_learning.sampled_points import SamplingMD
from fhi_al.active_learning.steps import Steps
from fhi_al.active_learning.training_rounds import TrainingRounds
from fhi_al.active_learning.unseen import validation_errors
from fhi_al.core.displaced_list import DisplacedList
from fhi_al.core.reported_errors import (
    ReportedErrors,
    contradictions,
    md_estimate,
    mean_errors,
)
from fhi_al.core.run_state import RunState
from fhi_al.labels.completion_log import CompletionLog
from fhi_al.labels.serial_queue import LabelQueue
from fhi_al.labels.store import LabelStore
from fhi_al.models.ensemble import Ensemble
from fhi_al.report import clock
from fhi_al.report.clock import Clock
from fhi_al.report.export import Exporter
from fhi_al.report.journal import Journal

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Report:
    """What a run tells its user besides the log.

    Parameters
    ----------
    journal : Journal
        What happened, which the tables are made from.
    clock : Clock
        Where the wall time goes.
    export : Exporter
        Data sets, models and checkpoints.
    folder : Path or None
        For what the report is to show besides, ``report/``; None without a report.
    """

    journal: Journal
    clock: Clock
    export: Exporter
    folder: Path | None = None


@dataclass(frozen=True, eq=False)
class Run:
    """A run, as :func:`fhi_al.open_run` yields it; the two procedures take it.

    Parameters
    ----------
    folder : Path
    options : LoopOptions
    progress : Progress
        Where it stands.
    dynamics : Dynamics
        MD on the ensemble's forces.
    final_dynamics : Dynamics
        That of the final test.
    sampling_md : SamplingMD
        What moves the initial dataset's trajectories.
    displaced : DisplacedList
        Its structures that are of no trajectory.
    labels : LabelQueue
    completion_log : CompletionLog
        Of what ends in the background.
    training : TrainingRounds
        With the ensemble.
    steps : Steps
    report : Report
    initial_data : InitialData or None
        Labels of the user's that are still to be taken in.
    """

    folder: Path
    options: LoopOptions
    progress: Progress
    dynamics: Dynamics
    final_dynamics: Dynamics
    sampling_md: SamplingMD
    displaced: DisplacedList
    labels: LabelQueue
    completion_log: CompletionLog
    training: TrainingRounds
    steps: Steps
    report: Report
    initial_data: InitialData | None = None

    @property
    def state(self) -> RunState:
        """Where it stands."""
        return self.progress.state

    @property
    def store(self) -> LabelStore:
        """All its labels."""
        return self.labels.validator.store

    @property
    def ensemble(self) -> Ensemble:
        """Its models."""
        return self.training.ensemble

    @property
    def clock(self) -> Clock:
        """Where the wall time went."""
        return self.report.clock

    def step(self) -> AbstractContextManager[None]:
        """See :meth:`fhi_al.active_learning.steps.Steps.step`."""
        return self.steps.step()

    def save(self) -> None:
        """Write a snapshot now."""
        self.steps.save(now=True)

    def convergence(self) -> Convergence:
        """What converges its members."""
        return Convergence(self.progress, self.training, self.step, self.options.convergence)

    def held_out(self) -> HeldOut:
        """Its test set."""
        return HeldOut(self.progress, self.ensemble.members, self.store, self.options.split)

    def report_errors(self, phase: str, members: Sequence[int]) -> None:
        """Measure the errors of members with the weights as they are, and warn of contradictions.

        Parameters
        ----------
        phase : str
            "initial" or "final".
        members : sequence of int
        """
        if not self.ensemble.can_be_trained:
            self.progress.update(final_mae_forces=math.nan, errors=None)
            return
        # Of the models that MD ran with; those of the initial phase, if no other were trained.
        active, along_md = self.state.active, self.state.final_mae_forces
        if active is not None and active.mae_forces is not None:
            along_md = active.mae_forces
        with self.clock.section(clock.TRAINING):
            chosen = [self.ensemble.members[index] for index in members]
            validation = mean_errors([validation_errors(each) for each in chosen])
        unseen = mean_errors([self.training.unseen_errors(phase, None, k) for k in members])
        md = None
        if phase == "final" and along_md is not None:
            md = md_estimate(self.report.journal.entries(), along_md)
        errors = ReportedErrors(validation, unseen, md)
        self.progress.update(final_mae_forces=validation.mae_forces, errors=errors)
        for message in contradictions(errors):
            log.warning("%s", message)

    def final_test(self) -> FinalTest:
        """What tests its finished models."""
        options = self.options.active_learning
        return FinalTest(
            self.progress,
            self.final_dynamics,
            self.labels,
            self.held_out(),
            ExcessEnergy(
                options.labelling.max_excess_energy,
                partial(mean_initial_energy, self.ensemble.members),
                self.final_dynamics.md_system,
            ),
            options.criterion.uncertainty,
            self.step,
            self.report.journal,
            self.clock,
        )

    def report_test_errors(self, phase: str) -> None:
        """Measure the errors on the test set with the weights as they are.

        Parameters
        ----------
        phase : str
            "initial" or "final".
        """
        with self.clock.section(clock.MD):
            mae = report_test_errors(
                phase,
                self.held_out().unseen(),
                self.dynamics.predictor,
                self.report.export.member_names,
                self.report.journal,
            )
        self.progress.update(test_mae_forces=mae)

    def keep_predictions(self, phase: str, members: Sequence[int]) -> None:
        """Keep what the report shows of members with the weights as they are.

        Parameters
        ----------
        phase : str
            "initial" or "final".
        members : sequence of int
        """
        if self.report.folder is None or not self.ensemble.can_be_trained:
            return
        with self.clock.section(clock.MD):
            keep_predictions(
                self.report.folder,
                phase,
                self.ensemble.members,
                members,
                self.held_out().unseen(),
                self.dynamics.predictor,
            )
