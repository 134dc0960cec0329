"""The MD that samples the initial dataset: on the reference engine or on a foundation model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ase.calculators.calculator import BaseCalculator

from fhi_al.active_learning.reference_forces import ReferenceForces
from fhi_al.active_learning.sampled_points import SamplingMD
from fhi_al.app import checks
from fhi_al.app.foundation import foundation_calculator
from fhi_al.core.assignment import Assignment
from fhi_al.core.trajectory import TrajectoryState
from fhi_al.labels.serial_queue import LabelQueue
from fhi_al.md.evaluation import ForceFunction, forces_of_calculator
from fhi_al.md.system import MDSystem
from fhi_al.settings import Settings


def sampling_md(
    settings: Settings,
    assignments: tuple[Assignment, ...],
    shares: Mapping[int, float],
    md_system: Callable[[int, int], MDSystem],
    labels: LabelQueue,
) -> SamplingMD:
    """What moves the initial dataset's trajectories.

    Parameters
    ----------
    settings : Settings
    assignments : tuple of Assignment
        One trajectory each.
    shares : mapping
        System -> its share of the points, compared with the others'.
    md_system : callable
        (system, md) -> MDSystem.
    labels : LabelQueue
        Where ab initio MD gets its forces.
    """
    return SamplingMD(assignments, shares, md_system, _Forces(settings, labels).on)


class _Forces:
    """Makes the forces of a block; loads a foundation model when first needed."""

    def __init__(self, settings: Settings, labels: LabelQueue) -> None:
        self._settings = settings
        self._labels = labels
        self._foundations: dict[str, BaseCalculator] = {}

    def on(self, source: str, trajectory: TrajectoryState, system: MDSystem) -> ForceFunction:
        """The forces of a block, by a source, that begins where a trajectory is."""
        if source == "aimd":
            return ReferenceForces(self._labels, trajectory, system)
        mace = self._settings.mace
        assert mace is not None
        if source not in self._foundations:
            self._foundations[source] = foundation_calculator(
                checks.foundation_settings(self._settings),
                source,
                device=mace.misc.device,
                dtype=mace.general.default_dtype,
            )
        return forces_of_calculator(self._foundations[source], self._labels.pump)
