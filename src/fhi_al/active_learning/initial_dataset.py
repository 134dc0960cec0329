"""The initial dataset: sample, label, train, until the ensemble is good enough to start MD."""

from __future__ import annotations

import logging
from dataclasses import replace

from fhi_al.active_learning import training_rounds
from fhi_al.active_learning.convergence import converge
from fhi_al.active_learning.held_out import HeldOut
from fhi_al.active_learning.run import Run
from fhi_al.active_learning.sampled_points import SampledPoints
from fhi_al.core.label import Label
from fhi_al.core.run_state import Stage
from fhi_al.core.split import goes_to_validation, n_to_sample
from fhi_al.core.stopping import initial_stop
from fhi_al.parallel.mpi import Nap
from fhi_al.report.error_table import mean
from fhi_al.report.logs import log_to_file, stop_log
from fhi_al.report.pulse import Pulse

log = logging.getLogger(__name__)


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
        self._points = SampledPoints(run)
        self._held_out = HeldOut(run)

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
            self._points.begin()
            log.info(
                "initial dataset: %d points for each of %d members per round, sampled by %s; "
                "target: force MAE %g eV/A",
                self._al.n_samples,
                len(self._all_members),
                self._al.initial_sampling,
                self._target,
            )
        if run.state.sampling.epochs_due > 0 and run.background is None:
            self._begin_round()
        while run.state.stage is Stage.INITIAL_SAMPLING:
            reason = self._stop_reason()
            if reason is None:
                with run.step():
                    self._step()
                continue
            self._take_surplus()
            log.info("initial dataset: %s", reason)
            goes_on = self._al.converge_initial
            stage = Stage.INITIAL_CONVERGENCE if goes_on else Stage.INITIAL_DONE
            run.state = replace(run.state, stage=stage)

    def _step(self) -> None:
        """Sample a point, train on a whole round, or wait for labels, whatever comes next.

        With labels in the background a round's training goes on beside the sampling of the next
        round, which does not depend on it.
        """
        run = self._run
        if self._round_has_ended():
            self._end_round()
            return
        self._points.take_in(wait=False)
        sampling = run.state.sampling
        n_sampled = len(sampling.points) + len(sampling.pending)
        if n_sampled < self._points_per_round and not self._in_last_round():
            self._points.sample()
            self._tell_progress()
        elif run.background is not None:
            self._go_on_training()
        elif sampling.pending:
            self._points.take_in(wait=True)
        else:
            self._train()

    @property
    def _target(self) -> float:
        return float(self._al.lambda_ * self._al.desired_acc)

    @property
    def _points_per_round(self) -> int:
        """What the members get, and what is held out for the test besides."""
        for_members = int(self._al.n_samples) * len(self._all_members)
        return n_to_sample(self._n_shared_out, for_members, self._al.test_ratio)

    @property
    def _n_shared_out(self) -> int:
        members = self._run.ensemble.members
        sizes = [len(member.training) + len(member.validation) for member in members]
        return sum(sizes) + len(self._run.state.test)

    def _stop_reason(self) -> str | None:
        sampling = self._run.state.sampling
        in_a_round = bool(sampling.points) and not self._run.labels.overlaps
        if in_a_round or sampling.epochs_due > 0:
            return None
        return initial_stop(
            sampling.mae_forces, self._target, sampling.epochs, self._al.max_initial_epochs
        )

    def _train(self) -> None:
        """The end of a round: share its points out and train."""
        run, al = self._run, self._al
        self._share_out_points()
        for member in run.ensemble.members:
            member.fit_normalisation()
        epochs = min(al.intermediate_epochs, al.max_initial_epochs - run.state.sampling.epochs)
        run.state = replace(run.state, sampling=replace(run.state.sampling, epochs_due=epochs))
        self._begin_round()
        if not run.labels.overlaps:
            self._end_round()

    def _begin_round(self) -> None:
        run = self._run
        run.background = training_rounds.begin(
            run,
            self._all_members,
            run.state.sampling.epochs_due,
            in_background=run.labels.overlaps,
        )

    def _round_has_ended(self) -> bool:
        """Whether the visit in the background has ended; a look, for others' work is part of it."""
        run = self._run
        if run.background is None:
            return False
        recorded = run.completion_log.recorded()
        ended = run.background.training.is_finished if recorded is None else bool(recorded)
        run.completion_log.record(["training"] if ended else [])
        return ended

    def _in_last_round(self) -> bool:
        sampling = self._run.state.sampling
        epochs = sampling.epochs + sampling.epochs_due
        return sampling.epochs_due > 0 and epochs >= self._al.max_initial_epochs

    def _go_on_training(self) -> None:
        """The visit in the background to its end, for lack of anything else to do."""
        run = self._run
        assert run.background is not None
        nap = Nap()
        while not run.background.training.is_finished and run.soft_stop.reason() is None:
            if not run.advance_background():
                nap.take()
            run.labels.pump()

    def _end_round(self) -> None:
        run, al = self._run, self._al
        assert run.background is not None
        before, epochs = run.state.sampling, run.background.n_epochs
        training_round = training_rounds.finish(run, "initial", before.epochs, run.background)
        run.background = None
        run.state = replace(
            run.state,
            sampling=replace(
                run.state.sampling,
                rounds=before.rounds + 1,
                epochs_due=0,
                epochs=before.epochs + epochs,
                mae_forces=training_round.mae,
            ),
        )
        members = run.ensemble.members
        log.info(
            "initial dataset, round %d: %d labels, %d + %d points per member (training + "
            "validation), epoch %d of at most %d, force MAE %.4f eV/A (target %g); %s",
            run.state.sampling.rounds,
            run.store.n_labels,
            len(members[0].training),
            len(members[0].validation),
            run.state.sampling.epochs,
            al.max_initial_epochs,
            training_round.mae,
            self._target,
            training_round.words,
        )

    def _take_surplus(self) -> None:
        """Points of a round that is not needed any more: withdraw what can be, keep the others."""
        while self._run.state.sampling.pending:
            with self._run.step():
                self._points.withdraw()
                self._points.take_in(wait=True)
        self._share_out_points()

    def _share_out_points(self) -> None:
        """Every member gets its own part of the round's points, but for those held out."""
        members, n_before = self._run.ensemble.members, self._n_shared_out
        labels = []
        for place, key in enumerate(self._run.state.sampling.points):
            label = self._run.store.label(key)
            if self._held_out.claims(label, n_before + place):
                self._held_out.keep(label)
            else:
                labels.append(label)
        for member in members:
            self._share_out(member.index, labels[member.index :: len(members)])
        self._points.update(points=())

    def _tell_progress(self) -> None:
        if self._pulse.is_due():
            sampling = self._run.state.sampling
            log.info(
                "initial dataset: %d of %d points of this round, %d more wait for their labels",
                len(sampling.points),
                self._points_per_round,
                len(sampling.pending),
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

    def _finish(self) -> None:
        run = self._run
        run.walkers = []
        run.best_weights = {}
        for member in run.ensemble.members:
            member.freeze_normalisation()
        mae = mean([run.ensemble.members[i].validate().mae_forces for i in self._all_members])
        run.state = replace(
            run.state, stage=Stage.INITIAL_DONE, convergence=None, final_mae_forces=mae
        )
        self._held_out.report("initial")
        # The snapshot last: a run killed in between exports again.
        run.export.dataset("initial", run.ensemble, run.store, self._held_out.labels())
        run.export.models(run.ensemble)
        run.save(now=True)
        log.info(
            "initial dataset done: %d labels, force MAE on validation %.4f eV/A; models in %s",
            run.store.n_labels,
            mae,
            run.export.model_folder,
        )
