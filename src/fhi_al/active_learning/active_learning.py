"""Active learning: MD on the ensemble, DFT where its members disagree, training; in sweeps."""

from __future__ import annotations

import logging
from dataclasses import replace

from fhi_al.active_learning.comparison import best_member
from fhi_al.active_learning.convergence import converge
from fhi_al.active_learning.held_out import HeldOut
from fhi_al.active_learning.run import Run
from fhi_al.active_learning.sweep import Sweep
from fhi_al.active_learning.thresholds import describe
from fhi_al.core.calibration import Pairs
from fhi_al.core.improvement import BestError
from fhi_al.core.run_state import ActiveLearningState, Stage, SweepStage
from fhi_al.core.threshold import MovingAverage
from fhi_al.core.trajectory import TrajectoryState
from fhi_al.md.driver import random_stream
from fhi_al.md.walker import Walker
from fhi_al.report.calibration_figure import draw_calibration
from fhi_al.report.error_table import mean
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
        self._run = run
        self._al = run.settings.al
        self._sweep = Sweep(run)
        self._pulse = Pulse()

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
                self._begin()
            if run.state.stage is Stage.ACTIVE_LEARNING:
                self._sweep.trajectories.reinstate()
            while run.state.stage is Stage.ACTIVE_LEARNING:
                self._sweep_or_stop()
            if run.state.stage is Stage.FINAL_CONVERGENCE:
                converge(run, "final convergence", self._members_to_converge())
            self._finish()
        finally:
            stop_log(handler)

    def _begin(self) -> None:
        run, al = self._run, self._al
        trajectories = tuple(TrajectoryState(index) for index in range(al.num_trajectories))
        run.walkers = [
            Walker.start(
                run.driver(t.system, t.md),
                random_stream(run.conditions[t.md].seed, TRAJECTORY_STREAM, t.index),
            )
            for t in trajectories
        ]
        for member in run.ensemble.members:
            member.freeze_normalisation()
            member.fresh_optimizer(scheduler=False)
        empty = tuple(MovingAverage() for _ in run.systems)
        run.state = replace(
            run.state,
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
                plateaus=tuple(BestError() for _ in run.ensemble.members),
                pairs=tuple(Pairs() for _ in run.systems),
            ),
        )
        log.info(
            "active learning: %d trajectories of at most %s MD steps, checked every %d; %s",
            al.num_trajectories,
            al.max_MD_steps or "any number of",
            al.skip_step_mlff,
            describe(al),
        )
        run.save(now=True)

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
        run.walkers = []
        stage = Stage.FINAL_CONVERGENCE if self._al.converge_al else Stage.DONE
        run.state = replace(run.state, stage=stage, stop_reason=reason)

    def _members_to_converge(self) -> list[int]:
        if self._run.state.convergence is not None:
            return list(self._run.state.convergence.members)
        members = self._run.ensemble.members
        if not self._al.converge_best:
            return [member.index for member in members]
        return [best_member(members)]

    def _finish(self) -> None:
        run = self._run
        convergence = run.state.convergence
        members = convergence.members if convergence else range(len(run.ensemble.members))
        mae = mean([run.ensemble.members[index].validate().mae_forces for index in members])
        run.state = replace(run.state, stage=Stage.DONE, final_mae_forces=mae)
        held_out = HeldOut(run)
        held_out.report("final")
        if self._al.analysis:
            draw_calibration(run.journal, run.folder / "analysis")
        # The snapshot last: a run killed in between exports again.
        run.export.dataset("final", run.ensemble, run.store, held_out.labels())
        assert run.settings.mace is not None
        run.export.models(
            run.ensemble,
            best=members[0] if convergence and self._al.converge_best else None,
            compiled=run.settings.mace.misc.compile_final,
        )
        run.save(now=True)
        log.info("active learning done: force MAE on validation %.4f eV/A", mae)
