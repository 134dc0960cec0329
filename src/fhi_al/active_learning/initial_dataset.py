"""The initial dataset: sample, label, train, until the ensemble is good enough to start MD."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence

from fhi_al.active_learning.import_initial import take_in
from fhi_al.active_learning.initial_data import InitialData
from fhi_al.active_learning.options import NO_SAMPLING
from fhi_al.active_learning.run import Run
from fhi_al.active_learning.sampled_points import SampledPoints
from fhi_al.active_learning.sharing import Sharing
from fhi_al.core.label import Label
from fhi_al.core.run_state import SamplingState, Stage
from fhi_al.core.split import n_to_sample
from fhi_al.core.stopping import initial_stop
from fhi_al.models.member import Member
from fhi_al.parallel.mpi import Nap
from fhi_al.report.logs import log_to_file, stop_log
from fhi_al.report.pulse import Pulse

log = logging.getLogger(__name__)


class InitialDatasetProcedure:
    """Build the initial dataset and the first ensemble (SPEC: initial dataset).

    Parameters
    ----------
    run : Run
        From :func:`fhi_al.open_run`.
    samples : bool
        Whether points may be sampled where labels of the user's are not enough.
    """

    def __init__(self, run: Run, *, samples: bool = True) -> None:
        self._run = run
        self._samples = samples and run.options.initial.sampling.sources != (NO_SAMPLING,)
        self._progress = run.progress
        self._training = run.training
        self._options = run.options.initial
        self._split = run.options.split
        self._pulse = Pulse()
        self._held_out = run.held_out()
        self._sharing = Sharing(self._members, self._held_out, self._split)
        self._points = SampledPoints(
            run.progress,
            run.sampling_md,
            run.displaced,
            run.labels,
            run.clock,
            self._options.sampling,
            len(run.ensemble),
        )

    @property
    def _is_left_out(self) -> bool:
        """Whether active learning begins with the foundation model and without labels."""
        run = self._run
        has_data = run.initial_data is not None or bool(run.state.initial_data)
        return self._options.sampling.sources == (NO_SAMPLING,) and not has_data

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
                self._run.convergence().run("initial convergence", self._all_members)
            self._finish()
        finally:
            stop_log(handler)

    @property
    def _all_members(self) -> range:
        return range(len(self._members))

    def _grow(self) -> None:
        run, options = self._run, self._options
        is_sampling = self._samples and run.state.stage is Stage.INITIAL_SAMPLING
        if run.initial_data is not None and not run.state.initial_data:
            self._take_in(run.initial_data)
        if not self._points.has_begun and is_sampling:
            self._points.begin()
            log.info(
                "initial dataset: %d points for each of %d members per round, from %s; "
                "target: force MAE %g eV/A",
                options.points_per_member,
                len(self._members),
                ", ".join(options.sampling.sources),
                options.target,
            )
        if is_sampling:
            for line in self._points.table():
                log.info("initial dataset: %s", line)
        if self._sampling.epochs_due > 0 and self._training.background is None:
            self._begin_round()
        while run.state.stage is Stage.INITIAL_SAMPLING:
            reason = self._stop_reason()
            if reason is None:
                with run.step():
                    self._step()
                continue
            self._take_surplus()
            log.info("initial dataset: %s", reason)
            converges = options.converge and not self._is_left_out
            stage = Stage.INITIAL_CONVERGENCE if converges else Stage.INITIAL_DONE
            self._progress.update(stage=stage)

    def _take_in(self, data: InitialData) -> None:
        """Labels of the user's are the first points: they are trained on before any is sampled."""
        take_in(self._run, data)
        self._progress.update_sampling(helped=data.is_enough)
        self._run.save()

    @property
    def _has_only_data(self) -> bool:
        """Whether all points so far are of the user's files."""
        return bool(self._run.state.initial_data) and not any(self._sampling.sampled)

    def _step(self) -> None:
        """Sample a point, train on a whole round, or wait for labels, whatever comes next.

        With labels in the background a round's training goes on beside the sampling of the next
        round, which does not depend on it.
        """
        if self._round_has_ended():
            self._end_round()
            return
        self._points.take_in(wait=False)
        options = self._options
        sampling = self._sampling
        is_enough = self._budget_is_spent() or self._target_is_reached()
        is_training = self._training.background is not None
        # Nothing is paid for before it is known what the user's own labels come to.
        waits = is_enough or self._has_only_data or not options.train_in_background
        if sampling.helped and not is_training and waits:
            self._train()
            return
        n_sampled = self._points.n_in_round
        grows = not self._in_last_round() and not is_enough
        grows &= not (sampling.helped and self._has_only_data)
        if n_sampled < self._points_per_round and grows:
            self._points.sample()
            self._tell_progress()
        elif self._training.background is not None:
            self._go_on_training()
        elif sampling.pending:
            self._points.take_in(wait=True)
        else:
            self._train()

    @property
    def _sampling(self) -> SamplingState:
        return self._progress.state.sampling

    @property
    def _members(self) -> Sequence[Member]:
        return self._training.ensemble.members

    @property
    def _points_per_round(self) -> int:
        """What the members get of a round, and what is held out for the test besides."""
        for_members = self._options.points_per_member * len(self._members)
        return n_to_sample(self._sharing.n_points, for_members, self._split.test_ratio)

    def _stop_reason(self) -> str | None:
        if self._is_left_out:
            return "left out (initial_sampling: none); the foundation model begins"
        sampling, options = self._sampling, self._options
        in_a_round = bool(sampling.points) and not options.train_in_background
        if in_a_round or sampling.epochs_due > 0:
            return None
        reason = initial_stop(
            # Enough labels, but models that still learn from them are too poor to drive MD.
            None if sampling.helped else sampling.mae_forces,
            options.target,
            sampling.epochs,
            options.max_epochs,
        )
        if reason is None and not sampling.helped and not self._samples:
            return "training on the labels of files does not help any more, and none is sampled"
        if reason is None and not sampling.helped and self._budget_is_spent():
            return (
                f"{self._n_labels} labels are computed, another round would exceed its "
                f"share of label_budget, {options.label_budget:g}"
            )
        return reason

    def _target_is_reached(self) -> bool:
        mae = self._sampling.mae_forces
        return mae is not None and mae <= self._options.target

    def _budget_is_spent(self) -> bool:
        """Whether another round of points would be more than the budget allows for."""
        sampling, budget = self._sampling, self._options.label_budget
        is_first = sampling.rounds == 0 and sampling.epochs_due == 0
        if is_first or sampling.points or sampling.pending or math.isinf(budget):
            return False
        n_calls = self._points_per_round * self._options.calls_per_point
        return self._n_labels + n_calls > budget

    @property
    def _n_labels(self) -> int:
        """Labels that the run has been given so far."""
        return len(self._run.labels.validator.given)

    def _train(self) -> None:
        """The end of a round: share its points out, if there are any, and train."""
        has_points = bool(self._sampling.points) or self._sampling.rounds == 0
        self._share_out_points()
        for member in self._members:
            if has_points and member.frozen:  # for systems that were added to a run
                member.fit_energies_of_new_compositions()
            elif has_points:
                member.fit_normalisation()
            if self._sampling.rounds > 0:
                if has_points:
                    member.restart_plateau()
            elif self._options.scheduler:
                member.fresh_optimizer(scheduler=True)
        # Points that were paid for are trained on, also where the limit was lowered meanwhile.
        left = max(1, self._options.max_epochs - self._sampling.epochs)
        self._progress.update_sampling(epochs_due=min(self._options.epochs_per_round, left))
        self._begin_round()
        if not self._options.train_in_background:
            self._end_round()

    def _begin_round(self) -> None:
        self._training.background = self._training.begin(
            self._all_members,
            self._sampling.epochs_due,
            in_background=self._options.train_in_background,
        )

    def _round_has_ended(self) -> bool:
        """Whether the round in the background has ended; recorded, for others work on it, too."""
        background, completion_log = self._training.background, self._run.completion_log
        if background is None:
            return False
        recorded = completion_log.recorded()
        ended = background.training.is_finished if recorded is None else bool(recorded)
        completion_log.record(["training"] if ended else [])
        return ended

    def _in_last_round(self) -> bool:
        sampling = self._sampling
        epochs = sampling.epochs + sampling.epochs_due
        return sampling.epochs_due > 0 and epochs >= self._options.max_epochs

    def _go_on_training(self) -> None:
        """The round in the background to its end, for lack of anything else to do."""
        background = self._training.background
        assert background is not None
        nap = Nap()
        while not background.training.is_finished and not self._run.steps.must_stop:
            if not self._training.advance_background():
                nap.take()
            self._run.labels.pump()

    def _end_round(self) -> None:
        running = self._training.background
        assert running is not None
        before = self._sampling
        result = self._training.finish("initial", before.epochs, running)
        self._training.background = None
        self._progress.update_sampling(
            rounds=before.rounds + 1,
            epochs_due=0,
            epochs=before.epochs + running.n_epochs,
            mae_forces=self._lowest(before, result.mae_to_reach),
            helped=self._has_helped(before, result.mae_to_reach),
        )
        member = self._members[0]
        log.info(
            "initial dataset, round %d: %d labels, %d + %d points per member (training + "
            "validation), epoch %d of at most %d, force MAE%s %.4f eV/A (target %g); %s",
            self._sampling.rounds,
            self._run.store.n_labels,
            len(member.training),
            len(member.validation),
            self._sampling.epochs,
            self._options.max_epochs,
            " of the worst system" if result.worst_of else "",
            result.mae_to_reach,
            self._options.target,
            result.message,
        )

    def _lowest(self, before: SamplingState, mae: float) -> float:
        """What a round of training has come to: on the same points, not worse than the last one."""
        waits = self._has_only_data or not self._options.train_in_background
        same_points = before.helped and waits
        if not same_points or before.mae_forces is None or math.isnan(mae):
            return mae
        return min(mae, before.mae_forces)

    def _has_helped(self, before: SamplingState, mae: float) -> bool:
        """Whether training goes on before any more points are paid for, or the phase ends."""
        gain = self._options.gain
        if gain is None:
            return not self._samples
        return before.mae_forces is None or mae < (1 - gain) * before.mae_forces

    def _take_surplus(self) -> None:
        """Points of a round that is not needed any more: withdraw what can be, keep the others."""
        while self._sampling.pending:
            with self._run.step():
                self._points.withdraw()
                self._points.take_in(wait=True)
        self._share_out_points()

    def _share_out_points(self) -> None:
        points = [self._run.store.label(key) for key in self._sampling.points]
        self._sharing.share_out(points)
        self._points.update(points=())
        self._tell_sources(points)

    def _tell_sources(self, labels: Sequence[Label]) -> None:
        """How many of a round's points are of each source."""
        counts = Counter(label.origin.source or "MD" for label in labels)
        for source, n_points in counts.items():
            self._run.report.journal.add(
                "initial points",
                round=self._sampling.rounds + 1,
                source=source,
                n_points=n_points,
            )
        if counts:
            told = ", ".join(f"{n_points} {source}" for source, n_points in counts.items())
            log.info("initial dataset, round %d: points of %s", self._sampling.rounds + 1, told)

    def _tell_progress(self) -> None:
        if self._pulse.is_due():
            sampling = self._sampling
            log.info(
                "initial dataset: %d of %d points of this round, %d more wait for their labels",
                len(sampling.points),
                self._points_per_round,
                len(sampling.pending),
            )

    def _finish(self) -> None:
        run, export = self._run, self._run.report.export
        self._progress.live, self._progress.best_weights = [], {}
        for member in self._members:
            member.freeze_normalisation()
        self._progress.update(stage=Stage.INITIAL_DONE, convergence=None)
        run.report_errors("initial", self._all_members)
        run.report_test_errors("initial")
        run.keep_predictions("initial", self._all_members)
        # The snapshot last: a run killed in between exports again.
        export.dataset("initial", self._members, run.store, self._held_out.labels())
        export.models(run.ensemble)
        export.model_card(run.ensemble, run.store, run.state.errors)
        run.save()
        if self._is_left_out:
            return
        log.info(
            "initial dataset done: %d labels, force MAE on validation %.4f eV/A; models in %s",
            run.store.n_labels,
            run.state.final_mae_forces,
            export.model_folder,
        )
