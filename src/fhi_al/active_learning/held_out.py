"""The test set: points that nothing is decided by, and the errors on them at the end.

Owns ``state.test``.  No member ever sees these points: they are in none of its sets.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace

from fhi_al.active_learning.run import Run
from fhi_al.core.held_out import PredictionErrors, prediction_errors
from fhi_al.core.label import Label
from fhi_al.core.split import goes_to_test
from fhi_al.models.predictor import Prediction
from fhi_al.report import clock

log = logging.getLogger(__name__)

# Structures predicted at a time, which bounds what is held of them.
_AT_ONCE = 200
HELD_OUT = "held out"
SANITY = "sanity checks"


class HeldOut:
    """The test set of a run.

    Parameters
    ----------
    run : Run
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._ratio = float(run.settings.al.test_ratio)

    def labels(self) -> list[Label]:
        """The points, in the order in which they were held out."""
        return [self._run.store.label(key) for key in self._run.state.test]

    def claims(self, label: Label, n_before: int) -> bool:
        """Whether a point is a test point.

        Parameters
        ----------
        label : Label
        n_before : int
            Points of this phase before it, test points included.
        """
        if label.key in self._run.state.test:  # the same structure again
            return True
        return goes_to_test(n_before, self._ratio) and not self._is_known(label)

    def keep(self, label: Label) -> None:
        """Hold a point out from here on."""
        if label.key not in self._run.state.test:
            test = (*self._run.state.test, label.key)
            self._run.state = replace(self._run.state, test=test)

    def keep_point(self, label: Label, trajectory: int, md_step: int) -> None:
        """Hold out, and count, a point that active learning has found."""
        self.keep(label)
        active = self._run.state.active
        assert active is not None
        active = replace(active, n_test=active.n_test + 1)
        self._run.state = replace(self._run.state, active=active)
        log.info(
            "sweep %d, trajectory %d, MD step %d: point is held out for the test (%d so far)",
            active.sweep,
            trajectory,
            md_step,
            active.n_test,
        )

    def keep_sanity_check(self, label: Label) -> None:
        """Hold the point of a sanity check out, which joins no set: it costs no further label.

        Not with ``sanity_action: add``: what is left is then what the ensemble knew.
        """
        unbiased = self._run.settings.al.sanity_action == "record"
        if self._ratio > 0 and unbiased and not self._is_known(label):
            self.keep(label)

    def _is_known(self, label: Label) -> bool:
        return any(
            label.key == known.key
            for member in self._run.ensemble.members
            for known in (*member.training, *member.validation)
        )

    def report(self, phase: str) -> None:
        """Measure the errors with the weights as they are; to the log, the state and the tables.

        Parameters
        ----------
        phase : str
            "initial" or "final".
        """
        run = self._run
        # A sanity check may have become a point of the sets by a later crossing.
        labels = [label for label in self.labels() if not self._is_known(label)]
        run.state = replace(run.state, test_mae_forces=None)
        groups: dict[str, list[Label]] = {HELD_OUT: [], SANITY: []}
        for label in labels:
            groups[SANITY if label.origin.phase == "sanity" else HELD_OUT].append(label)
        for group, chosen in groups.items():
            if chosen:
                self._report(phase, group, chosen)

    def _report(self, phase: str, group: str, labels: Sequence[Label]) -> None:
        run = self._run
        with run.clock.section(clock.MD):
            predicted: list[Prediction] = []
            for first in range(0, len(labels), _AT_ONCE):
                predicted += run.predictor.predict(labels[first : first + _AT_ONCE])
        mean = prediction_errors(
            labels,
            [float(each.energies.mean()) for each in predicted],
            [each.forces.mean(axis=0) for each in predicted],
        )
        self._journal(phase, group, "ensemble_mean", mean)
        for k in range(len(run.ensemble.members)):
            errors = prediction_errors(
                labels,
                [float(each.energies[k]) for each in predicted],
                [each.forces[k] for each in predicted],
            )
            self._journal(phase, group, run.export.member_name(k), errors)
        if group == HELD_OUT:
            run.state = replace(run.state, test_mae_forces=mean.mae_forces)

    def _journal(self, phase: str, group: str, model: str, errors: PredictionErrors) -> None:
        self._run.journal.add("test", phase=phase, points=group, model=model, **asdict(errors))
        log.info(
            "test set, %s, %d points, %s: forces MAE %.4f, RMSE %.4f, worst 1 %% %.4f eV/A; energy "
            "MAE %.5f, RMSE %.5f eV/atom",
            group,
            errors.n_points,
            model,
            errors.mae_forces,
            errors.rmse_forces,
            errors.worst_forces,
            errors.mae_energy_per_atom,
            errors.rmse_energy_per_atom,
        )
