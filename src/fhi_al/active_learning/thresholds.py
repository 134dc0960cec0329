"""Thresholds of the uncertainty, one per system: moving or calibrated.

Owns what active learning's state knows of uncertainties seen and of their true errors.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np

from fhi_al.active_learning.options import CalibrationOptions, Criterion
from fhi_al.active_learning.progress import Progress
from fhi_al.core import calibration
from fhi_al.core.calibration import Calibration, Pairs
from fhi_al.core.label import Label
from fhi_al.core.run_state import PendingLabel
from fhi_al.core.threshold import observed, threshold
from fhi_al.core.uncertainty import force_error
from fhi_al.report.journal import Journal

log = logging.getLogger(__name__)


class Thresholds:
    """One threshold per system: of the uncertainties before, or of the calibrated uncertainty.

    Parameters
    ----------
    progress : Progress
        Of a run whose active learning has begun.
    criterion : Criterion
    journal : Journal
    rms_force : callable
        System -> root mean square of the reference forces known before active learning, in eV/A;
        None if there are none.
    """

    def __init__(
        self,
        progress: Progress,
        criterion: Criterion,
        journal: Journal,
        rms_force: Callable[[int], float | None],
    ) -> None:
        self._progress = progress
        self._criterion = criterion
        self._journal = journal
        self._rms_force = cache(rms_force)
        # System -> pairs and what they say, so that a check does not work it out again.
        self._known: dict[int, tuple[Pairs, Calibration | None]] = {}

    def observe(self, system: int, uncertainty: float) -> float | None:
        """Take note of an uncertainty in eV/A; the threshold, the current estimate included."""
        histories = list(self._progress.active.uncertainties)
        histories[system] = observed(histories[system], uncertainty, self._criterion.rule.window)
        self._progress.update_active(uncertainties=tuple(histories))
        return self.limit(system)

    def limit(self, system: int) -> float | None:
        """The uncertainty in eV/A above which a structure gets a label; None while warming up.

        Once it is calibrated, scale x uncertainty is to be compared with a limit in true errors:
        this is that limit divided by the scale.
        """
        calibrated = self._calibrated_limit(system)
        if calibrated is not None:
            return calibrated
        rule, rms_force = self._criterion.rule, self._rms_force(system)
        largest = math.inf if rms_force is None else rule.largest * rms_force
        return threshold(self._progress.active.uncertainties[system], rule, largest)

    def _calibrated_limit(self, system: int) -> float | None:
        options, fit = self._criterion.calibration, self._calibration(system)
        if options is None or options.error_limit is None or fit is None:
            return None
        return options.error_limit / fit.scale if is_usable(fit, options) else None

    def compare(self, pending: PendingLabel, label: Label) -> None:
        """Take note of the true error of a structure, where such errors are recorded.

        Only sanity checks count, which come at fixed times: structures that were chosen because
        their uncertainty is large are, on the whole, those whose uncertainty came out too large.
        """
        options = self._criterion.calibration
        if options is None:
            return
        state, system = self._progress.active, label.system
        error = force_error(np.array(pending.forces), label.forces, self._criterion.uncertainty)
        entry = {
            "system": label.origin.system or system,
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
                pairs[system], pending.uncertainty, error, options.window
            )
            self._progress.update_active(pairs=tuple(pairs))
            fit = self._calibration(system)
            if fit is not None:
                in_use = options.error_limit is not None and is_usable(fit, options)
                entry |= {**vars(fit), "in_use": in_use}
            self._report(system, fit, options)
        self._journal.add("calibration", **entry)

    def _calibration(self, system: int) -> Calibration | None:
        pairs = self._progress.active.pairs[system]
        known = self._known.get(system)
        if known is None or known[0] is not pairs:
            known = pairs, calibration.calibration(pairs.values)
            self._known[system] = known
        return known[1]

    def _report(self, system: int, fit: Calibration | None, options: CalibrationOptions) -> None:
        """Log the calibration of a system if it has changed much since it was last logged."""
        pairs = list(self._progress.active.pairs)
        scale = fit.scale if fit is not None and is_usable(fit, options) else None
        if not calibration.is_material(pairs[system].reported, scale):
            return
        if scale is None:
            log.info("calibration: its interval has become too wide to be used")
        elif fit is not None:
            log.info("calibration: %s", calibration.describe(fit))
            if options.error_limit is not None:
                log.info(
                    "the threshold is a true error of %.3g eV/A: an uncertainty of %.3g eV/A",
                    options.error_limit,
                    options.error_limit / scale,
                )
        pairs[system] = replace(pairs[system], reported=scale)
        self._progress.update_active(pairs=tuple(pairs))


def is_usable(fit: Calibration, options: CalibrationOptions) -> bool:
    """Whether a calibration is known well enough to base a threshold on."""
    return calibration.is_usable(fit, options.warmup)


def describe(criterion: Criterion) -> str:
    """The threshold, for the log, when active learning begins."""
    rule, calibrated = criterion.rule, criterion.calibration
    of_what = "moving average"
    if rule.kind == "quantile":
        of_what = f"{rule.quantile:g} quantile"
    message = (
        f"threshold = {1.0 - rule.c_x:.3g} x {of_what} of the uncertainty (c_x = {rule.c_x:g}), "
        f"after {rule.warmup} estimates"
    )
    if math.isfinite(rule.largest):
        message += f", at most {rule.largest:g} x rms force of the initial dataset x (1 - c_x)"
    if calibrated is not None and calibrated.error_limit is not None:
        message += (
            f"; once {calibrated.warmup} sanity checks have calibrated the uncertainty, a true "
            f"error of {calibrated.error_limit:.3g} eV/A"
        )
    return message
