"""The MD that samples the initial dataset: from the reference engine or a foundation model."""

from __future__ import annotations

from ase.calculators.calculator import BaseCalculator

from fhi_al.active_learning.reference_calculator import ReferenceCalculator
from fhi_al.app import checks
from fhi_al.app.foundation import foundation_calculator
from fhi_al.core.structure import Structure
from fhi_al.labels.serial_queue import LabelQueue
from fhi_al.md.driver import Driver
from fhi_al.md.integrators import MDConditions
from fhi_al.settings import Settings


class SamplingDriver:
    """Makes the driver of the initial dataset's MD; loads a foundation model when first needed."""

    def __init__(
        self,
        settings: Settings,
        system: Structure,
        conditions: MDConditions,
        labels: LabelQueue,
    ) -> None:
        self._settings = settings
        self._system = system
        self._conditions = conditions
        self._labels = labels
        self._foundation: BaseCalculator | None = None

    def at(self, md_step: int) -> Driver:
        """The driver of a block that begins at an MD step."""
        limits = checks.geometry_limits(self._settings)
        calculator = self._calculator(md_step)
        return Driver(self._system, self._conditions, calculator, limits, self._labels.pump)

    def _calculator(self, md_step: int) -> BaseCalculator:
        al, mace = self._settings.al, self._settings.mace
        if al.initial_sampling == "aimd":
            return ReferenceCalculator(self._labels, 0, md_step)
        assert mace is not None
        if self._foundation is None:
            self._foundation = foundation_calculator(
                checks.foundation_settings(self._settings),
                device=mace.misc.device,
                dtype=mace.general.default_dtype,
            )
        return self._foundation
