"""Active learning: MD on the ensemble, DFT where its members disagree, training; in sweeps."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace

from fhi_al.active_learning.candidates import Candidates
from fhi_al.active_learning.comparison import best_member
from fhi_al.active_learning.final_sets import share_all
from fhi_al.active_learning.labelling import Labelling
from fhi_al.active_learning.points import Points
from fhi_al.active_learning.propagation import Propagation
from fhi_al.active_learning.run import Run
from fhi_al.active_learning.sweep import Sweep
from fhi_al.active_learning.thresholds import describe
from fhi_al.active_learning.trajectories import Trajectories
from fhi_al.core.assignment import Assignment, trajectories_of
from fhi_al.core.calibration import Pairs
from fhi_al.core.final_test import n_test_labels
from fhi_al.core.improvement import BestError
from fhi_al.core.reported_errors import contradictions
from fhi_al.core.run_state import ActiveLearningState, Stage, SweepStage
from fhi_al.core.threshold import MovingAverage
from fhi_al.core.trajectory import TrajectoryState
from fhi_al.md.live_trajectory import LiveTrajectory
from fhi_al.md.point import random_stream
from fhi_al.md.table import conditions_table
from fhi_al.report.calibration_figure import draw_calibration
from fhi_al.report.logs import log_to_file, stop_log
from fhi_al.report.pulse import Pulse

log = logging.getLogger(__name__)

# Purpose number of the trajectories' random streams; the initial dataset's stream has another.
TRAJECTORY_STREAM = 1


class ActiveLearningProcedure:
    """Run active learning on an initial ensemble (SPEC: active learning), then converge.

    Parameters
    ----------
    run : Run
        From :func:`fhi_al.open_run`.
    """

    def __init__(self, run: Run) -> None:
        options = run.options.active_learning
        self._run = run
        self._progress = run.progress
        self._options = options
        self._pulse = Pulse()
        self._trajectories = Trajectories(run.progress, run.dynamics.md_system, options.limits)
        self._sweep = _sweep(run, self._trajectories)

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to do."""
        return self._run.state.stage is Stage.DONE

    def run(self) -> None:
        """Go on from where the run stands until the force field is finished.

        Raises
        ------
        EngineError
            If the reference engine fails for good.
        ValueError
            If the initial dataset is not done.
        """
        run = self._run
        if self.is_done:
            log.info("active learning is complete already")
            return
        if run.state.stage.is_initial:
            raise ValueError("active learning needs a finished initial dataset: run that first")
        handler = log_to_file(run.folder / "AL.log")
        try:
            if run.state.stage is Stage.INITIAL_DONE:
                self._begin_again() if run.state.active is not None else self._begin()
            if run.state.stage is Stage.ACTIVE_LEARNING:
                self._trajectories.reinstate()
                self._tell_conditions()
            while run.state.stage is Stage.ACTIVE_LEARNING:
                self._sweep_or_stop()
            converges = self._options.converge is not None and run.ensemble.can_be_trained
            if run.state.stage is Stage.FINAL_CONVERGENCE and converges:
                self._converge()
            if run.state.stage is not Stage.FINAL_TEST:
                self._report_and_export()
            self._test()
            self._finish()
        finally:
            stop_log(handler)

    def _begin(self) -> None:
        run, options = self._run, self._options
        trajectories = trajectories_of(run.dynamics.assignments)
        self._progress.live = [self._at_start(trajectory) for trajectory in trajectories]
        for member in run.ensemble.members:
            member.freeze_normalisation()
            member.fresh_optimizer(scheduler=False)
        empty = tuple(MovingAverage() for _ in run.dynamics.systems)
        self._progress.update(
            stage=Stage.ACTIVE_LEARNING,
            active=ActiveLearningState(
                sweep=0,
                stage=SweepStage.MOVE,
                pending=(),
                next_round=0,
                epochs=0,
                trajectories=trajectories,
                uncertainties=empty,
                true_errors=empty,
                n_points=0,
                n_validation=0,
                n_test=0,
                n_duplicates=0,
                n_withdrawn=0,
                rescored=0,
                mae_forces=None,
                mae_to_reach=None,
                plateaus=tuple(BestError() for _ in run.ensemble.members),
                pairs=tuple(Pairs() for _ in run.dynamics.systems),
            ),
        )
        log.info(
            "active learning: %d trajectories of at most %s MD steps, checked every %d; %s",
            len(trajectories),
            _number(options.limits.max_md_steps),
            options.sweep.skip_step,
            describe(options.criterion),
        )
        run.save()

    def _begin_again(self) -> None:
        """Of a run to which systems were added: trajectories that are over have company now."""
        run, state = self._run, self._trajectories.state
        self._progress.live = [self._at_start(trajectory) for trajectory in state.trajectories]
        for member in run.ensemble.members:
            member.fresh_optimizer(scheduler=False)
        self._progress.update(stage=Stage.ACTIVE_LEARNING)
        run.save()

    def _tell_conditions(self) -> None:
        trajectories = self._trajectories.state.trajectories
        for line in conditions_table(trajectories, self._run.dynamics.system_of):
            log.info("active learning: %s", line)

    def _at_start(self, trajectory: TrajectoryState) -> LiveTrajectory:
        system = self._run.dynamics.md_system(trajectory.system, trajectory.md)
        seed = system.conditions.seed
        stream = random_stream(seed, TRAJECTORY_STREAM, trajectory.index)
        return LiveTrajectory.start(system, stream, trajectory.start)

    def _sweep_or_stop(self) -> None:
        run = self._run
        reason = self._sweep.stop_reason()
        if reason is None:
            with run.step():
                self._sweep.step()
            if self._pulse.is_due():
                log.info("%s", self._sweep.progress())
            return
        while run.state.active is not None and run.state.active.pending:
            with run.step():
                self._sweep.drain()
        log.info("active learning stops: %s", reason)
        if not run.ensemble.can_be_trained:
            log.warning(
                "only %d labels, which are too few to train and to validate on: the models are as"
                " they began. Give active learning more steps, or a smaller c_x",
                run.store.n_labels,
            )
        self._progress.live = []
        self._progress.update(stage=Stage.FINAL_CONVERGENCE, stop_reason=reason)

    def _converge(self) -> None:
        run = self._run
        members = self._members_to_converge()
        if run.state.convergence is None and self._options.share_all:
            # In no step of its own: what a snapshot holds is before it or well within.
            share_all(
                [run.ensemble.members[index] for index in members],
                run.ensemble.members,
                run.labels.validator.known_labels(),
                run.held_out().labels(),
                run.ensemble.descriptors.of,
            )
        run.convergence().run("final convergence", members, anew=self._options.converge_anew)

    def _members_to_converge(self) -> list[int]:
        if self._run.state.convergence is not None:
            return list(self._run.state.convergence.members)
        members = self._run.ensemble.members
        if self._options.converge != "best":
            return [member.index for member in members]
        return [best_member(members)]

    def _finished_members(self) -> Sequence[int]:
        convergence = self._run.state.convergence
        return convergence.members if convergence else range(len(self._run.ensemble.members))

    def _best_member(self) -> int | None:
        """The one that was converged, if it was one."""
        convergence, is_best = self._run.state.convergence, self._options.converge == "best"
        return convergence.members[0] if convergence is not None and is_best else None

    def _report_and_export(self) -> None:
        """What there is without the test, which may take hours of DFT, or fail."""
        run, options, export = self._run, self._options, self._run.report.export
        run.report_errors("final", self._finished_members())
        if options.figures is not None:
            draw_calibration(run.report.journal, options.figures)
        # The snapshot last: a run killed in between exports again.
        export.dataset("final", run.ensemble.members, run.store, run.held_out().labels())
        best = self._best_member()
        export.models(run.ensemble, best, compiled=options.compile_models)
        export.model_card(run.ensemble, run.store, run.state.errors, best)
        n_labels = self._n_test_labels()
        if n_labels > 0:
            run.final_test().begin(n_labels, self._table())
            self._progress.update(stage=Stage.FINAL_TEST)
            run.save()

    def _n_test_labels(self) -> int:
        """Labels for the test of the finished models, before it has begun."""
        stop, n_given = self._options.stop, len(self._run.labels.validator.given)
        if math.isinf(stop.label_budget):
            n_systems = len({each.system for each in self._table()})
            return n_test_labels(self._options.final_test, n_given, n_systems)
        n_left = max(0, int(stop.label_budget) - n_given)
        if n_left < stop.kept_for_test:
            log.warning(
                "final test: %d labels instead of %d, for more are not left of label_budget = %g",
                n_left,
                stop.kept_for_test,
                stop.label_budget,
            )
        return min(stop.kept_for_test, n_left)

    def _table(self) -> list[Assignment]:
        """System, MD block and start of each trajectory."""
        return [
            Assignment(each.system, each.md, each.start)
            for each in self._trajectories.state.trajectories
        ]

    def _test(self) -> None:
        """Measure the true error of the finished models, if labels are to be computed for that."""
        run = self._run
        # Where final_test was changed to 0 meanwhile there is no engine.
        if run.state.stage is not Stage.FINAL_TEST or self._options.final_test == 0:
            return
        test = run.final_test()
        if run.state.final_test is None:  # in the snapshot of an older program
            test.begin(self._n_test_labels(), self._table())
        found = test.run(self._finished_members())
        assert run.state.errors is not None
        before = set(contradictions(run.state.errors))
        errors = replace(run.state.errors, test=found)
        self._progress.update(errors=errors)
        log.info("final test: true errors in MD of the finished models: %s", found)
        for message in contradictions(errors):
            if message not in before:
                log.warning("%s", message)

    def _finish(self) -> None:
        run = self._run
        self._progress.live = []
        run.report_test_errors("final")
        run.keep_predictions("final", self._finished_members())
        self._progress.update(stage=Stage.DONE)
        if run.state.final_test is not None:
            labels, export = run.held_out().labels(), run.report.export
            export.dataset("final", run.ensemble.members, run.store, labels)
            export.model_card(run.ensemble, run.store, run.state.errors, self._best_member())
        run.save()
        log.info(
            "active learning done: force MAE on validation %.4f eV/A", run.state.final_mae_forces
        )


def _sweep(run: Run, trajectories: Trajectories) -> Sweep:
    options, report = run.options.active_learning, run.report
    points = Points(
        trajectories,
        run.ensemble,
        run.held_out(),
        run.labels.validator,
        run.options.split,
        options.stop,
    )
    return Sweep(
        trajectories,
        Propagation(run.dynamics, run.labels.pump),
        Labelling(
            trajectories,
            points,
            run.labels,
            run.dynamics,
            report.journal,
            report.clock,
            options.criterion,
            options.labelling,
        ),
        points,
        Candidates(
            trajectories,
            run.dynamics,
            run.ensemble,
            run.labels.prefer,
            report.journal,
            report.clock,
            options.labelling,
        ),
        run.training,
        run.labels,
        report.clock,
        options.sweep,
        options.stop,
    )


def _number(limit: float) -> str:
    return "any number of" if math.isinf(limit) else f"{limit:.0f}"
