"""Ab initio MD: forces from the label queue, so that every step's label is kept."""

from __future__ import annotations

from collections.abc import Mapping

from fhi_al.core.label import Label, Origin
from fhi_al.core.trajectory import TrajectoryState
from fhi_al.labels.serial_queue import LabelQueue
from fhi_al.labels.validation import LabelRequest
from fhi_al.md.evaluation import Evaluation, MovingStructure
from fhi_al.md.point import MDFailure
from fhi_al.md.system import MDSystem

# What labels say that it has driven their MD.
SOURCE = "aimd"


class ReferenceForces:
    """Forces on one trajectory from the reference engine, through the queue.

    Parameters
    ----------
    queue : LabelQueue
    trajectory : TrajectoryState
        Before its next step.
    system : MDSystem
        What it moves.
    """

    def __init__(self, queue: LabelQueue, trajectory: TrajectoryState, system: MDSystem) -> None:
        self._queue = queue
        self._trajectory = trajectory
        self._system = system
        self._md_step = trajectory.step

    def __call__(self, pending: Mapping[int, MovingStructure]) -> dict[int, Evaluation | MDFailure]:
        """Label structures; a discarded label ends its trajectory's block."""
        self._queue.pump()
        return {place: self._label(structure) for place, structure in pending.items()}

    def _label(self, structure: MovingStructure) -> Evaluation | MDFailure:
        trajectory = self._trajectory
        md, name = self._system.conditions.name, self._system.name
        origin = Origin("initial", trajectory.index, self._md_step, md, SOURCE, name)
        request = LabelRequest(
            trajectory.system, structure.positions.copy(), structure.cell.copy(), origin
        )
        self._md_step += 1
        record = self._queue.label(request)
        if not isinstance(record, Label):
            return MDFailure(f"the label was discarded: {record.reason}")
        return Evaluation(record.forces, record.stress)
