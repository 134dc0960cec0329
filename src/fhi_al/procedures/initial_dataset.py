"""The initial dataset: sample, label, train, until the ensemble is good enough to start MD."""

from __future__ import annotations

import logging
from dataclasses import replace

from fhi_al.core.label import Label, Origin
from fhi_al.core.run_state import Stage
from fhi_al.core.split import goes_to_validation
from fhi_al.core.stopping import initial_stop
from fhi_al.md.driver import MDFailure, random_stream
from fhi_al.md.walker import Walker
from fhi_al.procedures.convergence import converge
from fhi_al.procedures.errors import SamplingFailure
from fhi_al.procedures.run import Run
from fhi_al.reference.label_pool import LabelRequest
from fhi_al.report import clock
from fhi_al.report.error_table import mean
from fhi_al.report.logs import log_to_file, stop_log
from fhi_al.report.pulse import Pulse

log = logging.getLogger(__name__)

# Purpose number of the random stream; active learning's streams use another one.
SAMPLING_STREAM = 0


class InitialDatasetProcedure:
    """Build the initial dataset and the first ensemble (SPEC: initial dataset).

    Parameters
    ----------
    run : Run
        From :func:`fhi_al.open_run`.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._al = run.settings.al
        self._pulse = Pulse()

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to do."""
        return not self._run.state.stage.is_initial

    def run(self) -> None:
        """Go on from where the run stands until the initial dataset is done.

        Raises
        ------
        EngineError
            If the reference engine fails for good.
        """
        if self.is_done:
            log.info("the initial dataset is complete already")
            return
        handler = log_to_file(self._run.folder / "initial_dataset.log")
        try:
            self._grow()
            if self._run.state.stage is Stage.INITIAL_CONVERGENCE:
                converge(self._run, "initial convergence", list(self._all_members))
            self._finish()
        finally:
            stop_log(handler)

    @property
    def _all_members(self) -> range:
        return range(len(self._run.ensemble.members))

    def _grow(self) -> None:
        run = self._run
        if not run.walkers and run.state.stage is Stage.INITIAL_SAMPLING:
            generator = random_stream(run.conditions[0].seed, SAMPLING_STREAM)
            run.walkers = [Walker.start(run.sampling_driver(0), generator)]
            log.info(
                "initial dataset: %d points for each of %d members per round, sampled by %s; "
                "target: force MAE %g eV/A",
                self._al.n_samples,
                len(self._all_members),
                self._al.initial_sampling,
                self._target,
            )
        while run.state.stage is Stage.INITIAL_SAMPLING:
            reason = self._stop_reason()
            if reason is None:
                with run.step():
                    if len(run.state.sampling.points) < self._points_per_round:
                        self._sample()
                    else:
                        self._train()
                continue
            log.info("initial dataset: %s", reason)
            goes_on = self._al.converge_initial
            stage = Stage.INITIAL_CONVERGENCE if goes_on else Stage.INITIAL_DONE
            run.state = replace(run.state, stage=stage)

    @property
    def _target(self) -> float:
        return float(self._al.lambda_ * self._al.desired_acc)

    @property
    def _points_per_round(self) -> int:
        return int(self._al.n_samples) * len(self._all_members)

    def _stop_reason(self) -> str | None:
        sampling = self._run.state.sampling
        if sampling.points:  # in the midst of a round
            return None
        return initial_stop(
            sampling.mae_forces, self._target, sampling.epochs, self._al.max_initial_epochs
        )

    def _train(self) -> None:
        """The end of a round: share its points out and train."""
        run, al = self._run, self._al
        members = run.ensemble.members
        labels = [run.store.label(key) for key in run.state.sampling.points]
        for member in members:
            self._share_out(member.index, labels[member.index :: len(members)])
            member.fit_statistics()
        epochs = min(al.intermediate_epochs, al.max_initial_epochs - run.state.sampling.epochs)
        visit = run.train("initial", run.state.sampling.epochs, epochs, list(self._all_members))
        run.state = replace(
            run.state,
            sampling=replace(
                run.state.sampling,
                rounds=run.state.sampling.rounds + 1,
                points=(),
                epochs=run.state.sampling.epochs + epochs,
                mae_forces=visit.mae,
            ),
        )
        log.info(
            "initial dataset, round %d: %d labels, %d + %d points per member (training + "
            "validation), epoch %d of at most %d, force MAE %.4f eV/A (target %g); %s",
            run.state.sampling.rounds,
            run.store.n_labels,
            len(members[0].training),
            len(members[0].validation),
            run.state.sampling.epochs,
            al.max_initial_epochs,
            visit.mae,
            self._target,
            visit.words,
        )

    def _share_out(self, index: int, labels: list[Label]) -> None:
        member = self._run.ensemble.members[index]
        for label in labels:
            n_validation = len(member.validation)
            n_points = n_validation + len(member.training)
            if goes_to_validation(n_validation, n_points, self._al.valid_ratio):
                member.add_validation([label])
            else:
                member.add_training([label])

    def _sample(self) -> None:
        """The next structure, ``skip_step_initial`` MD steps on, and its label."""
        run = self._run
        walker, sampling = run.walkers[0], run.state.sampling
        driver = run.sampling_driver(sampling.md_steps)
        n_steps = self._al.skip_step_initial
        sampling = replace(sampling, md_steps=sampling.md_steps + n_steps)
        try:
            with run.clock.section(clock.MD):
                walker.point = driver.advance(walker.point, n_steps, walker.generator)
            label = self._label(walker, sampling.md_steps)
        except MDFailure as failure:
            sampling = replace(
                sampling,
                setbacks=sampling.setbacks + 1,
                setbacks_in_row=sampling.setbacks_in_row + 1,
            )
            log.warning(
                "initial dataset, MD step %d: %s; back to the last good point with new velocities "
                "(setback %d)",
                sampling.md_steps,
                failure,
                sampling.setbacks,
            )
            if sampling.setbacks_in_row >= self._al.max_setbacks:
                raise SamplingFailure(_hopeless(sampling.setbacks_in_row, failure)) from failure
            walker.go_back(driver)
        else:
            walker.restart_point = walker.point
            sampling = replace(sampling, points=(*sampling.points, label.key), setbacks_in_row=0)
        run.state = replace(run.state, sampling=sampling)
        if self._pulse.is_due():
            log.info(
                "initial dataset: %d of %d points of this round",
                len(sampling.points),
                self._points_per_round,
            )

    def _label(self, walker: Walker, step: int) -> Label:
        request = LabelRequest(
            0, walker.point.positions, walker.point.cell, Origin("initial", 0, step)
        )
        record = self._run.labels.label(request)
        if not isinstance(record, Label):
            raise MDFailure(f"the label was discarded: {record.reason}")
        return record

    def _finish(self) -> None:
        run = self._run
        run.walkers = []
        run.best_weights = {}
        for member in run.ensemble.members:
            member.freeze_statistics()
        mae = mean([run.ensemble.members[i].validate().mae_forces for i in self._all_members])
        run.state = replace(
            run.state, stage=Stage.INITIAL_DONE, convergence=None, final_mae_forces=mae
        )
        # The snapshot last: a run killed in between exports again.
        run.export.dataset("initial", run.ensemble, run.store)
        run.export.models(run.ensemble)
        run.save(now=True)
        log.info(
            "initial dataset done: %d labels, force MAE on validation %.4f eV/A; models in %s",
            run.store.n_labels,
            mae,
            run.export.model_folder,
        )


def _hopeless(in_row: int, failure: MDFailure) -> str:
    return (
        f"initial dataset: the sampling MD failed {in_row} times in a row (max_setbacks), the last "
        f"time because {failure}: expected structures that make sense. Look at geometry.in; start "
        "in a new folder with a lower MD.temperature or MD.timestep, or another initial_sampling; "
        "or raise max_setbacks and run again."
    )
