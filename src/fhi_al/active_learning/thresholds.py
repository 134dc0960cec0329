"""The uncertainty above which a structure gets a label now, of each system of a run.

Owns what active learning's state knows of uncertainties seen and of their true errors.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from fhi_al.active_learning.run import Run
from fhi_al.active_learning.trajectories import Trajectories
from fhi_al.core import calibration
from fhi_al.core.calibration import Calibration, Pairs
from fhi_al.core.label import Label
from fhi_al.core.run_state import PendingLabel
from fhi_al.core.threshold import ThresholdRule, observed, threshold
from fhi_al.core.uncertainty import force_error
from fhi_al.settings.active_learning import ActiveLearning

log = logging.getLogger(__name__)


class Thresholds:
    """One threshold per system: of the uncertainties before, or of the calibrated uncertainty.

    Parameters
    ----------
    run : Run
    trajectories : Trajectories
        Of the same run.
    """

    def __init__(self, run: Run, trajectories: Trajectories) -> None:
        self._run = run
        self._al = run.settings.al
        self._trajectories = trajectories
        self._rule = rule_of(self._al)
        # System -> pairs and what they say, so that a check does not work it out again.
        self._found: dict[int, tuple[Pairs, Calibration | None]] = {}

    def observe(self, system: int, uncertainty: float) -> float | None:
        """Take note of an uncertainty in eV/A; the threshold, the current estimate included."""
        histories = list(self._trajectories.state.uncertainties)
        histories[system] = observed(histories[system], uncertainty, self._rule.window)
        self._trajectories.update(uncertainties=tuple(histories))
        return self.limit(system)

    def limit(self, system: int) -> float | None:
        """The uncertainty in eV/A above which a structure gets a label; None while warming up.

        With ``calibrate``, scale x uncertainty is to be compared with a limit in true errors: this
        is that limit divided by the scale.
        """
        found = self._calibration(system)
        if self._al.calibrate and found is not None and self._is_usable(found):
            return error_limit(self._al) / found.scale
        return threshold(self._trajectories.state.uncertainties[system], self._rule)

    def compare(self, pending: PendingLabel, label: Label) -> None:
        """Take note of the true error of a structure, with ``analysis``.

        Only sanity checks count, which come at fixed times: structures that were chosen because
        their uncertainty is large are, on the whole, those whose uncertainty came out too large.
        """
        if not self._al.analysis:
            return
        state, system = self._trajectories.state, label.system
        error = force_error(np.array(pending.forces), label.forces, self._al.uncertainty_type)
        entry = {
            "system": system,
            "sweep": state.sweep,
            "trajectory": pending.trajectory,
            "md_step": pending.frame.step,
            "uncertainty": pending.uncertainty,
            "true_error": error,
            "counts": pending.is_sanity_check,
        }
        if pending.is_sanity_check:
            pairs = list(state.pairs)
            pairs[system] = calibration.with_pair(
                pairs[system], pending.uncertainty, error, self._al.calibration_window
            )
            self._trajectories.update(pairs=tuple(pairs))
            found = self._calibration(system)
            if found is not None:
                to_runtime_model = self._al.calibrate and self._is_usable(found)
                entry |= {**vars(found), "in_use": to_runtime_model}
            self._tell(system, found)
        self._run.journal.add("calibration", **entry)

    def _is_usable(self, found: Calibration) -> bool:
        return calibration.is_usable(found, self._al.calibration_warmup)

    def _calibration(self, system: int) -> Calibration | None:
        pairs = self._trajectories.state.pairs[system]
        known = self._found.get(system)
        if known is None or known[0] is not pairs:
            known = pairs, calibration.calibration(pairs.values)
            self._found[system] = known
        return known[1]

    def _tell(self, system: int, found: Calibration | None) -> None:
        pairs = list(self._trajectories.state.pairs)
        usable = found is not None and self._is_usable(found)
        scale = found.scale if found is not None and usable else None
        if not calibration.is_material(pairs[system].reported, scale):
            return
        if scale is None:
            log.info("calibration: its interval has become too wide to be used")
        elif found is not None:
            log.info("calibration: %s", calibration.describe(found))
            if self._al.calibrate:
                log.info(
                    "the threshold is a true error of %.3g eV/A: an uncertainty of %.3g eV/A",
                    error_limit(self._al),
                    error_limit(self._al) / scale,
                )
        pairs[system] = replace(pairs[system], reported=scale)
        self._trajectories.update(pairs=tuple(pairs))


def rule_of(al: ActiveLearning) -> ThresholdRule:
    """The rule for uncertainties that are not calibrated."""
    return ThresholdRule(
        al.c_x, al.threshold_warmup, al.threshold_window, al.threshold_type, al.threshold_quantile
    )


def error_limit(al: ActiveLearning) -> float:
    """True error in eV/A above which a structure needs a label, with ``calibrate``."""
    if al.calibrated_threshold is not None:
        return al.calibrated_threshold
    return calibration.default_limit(al.uncertainty_type, al.desired_acc)


def describe(al: ActiveLearning) -> str:
    """The threshold as the log tells it when active learning begins."""
    of_what = "moving average"
    if al.threshold_type == "quantile":
        of_what = f"{al.threshold_quantile:g} quantile"
    words = (
        f"threshold = {1.0 - al.c_x:.3g} x {of_what} of the uncertainty (c_x = {al.c_x:g}), after "
        f"{al.threshold_warmup} estimates"
    )
    if al.calibrate:
        words += (
            f"; once {al.calibration_warmup} sanity checks have calibrated the uncertainty, a true "
            f"error of {error_limit(al):.3g} eV/A"
        )
    return words
