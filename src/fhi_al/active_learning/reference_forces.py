"""Ab initio MD: forces from the label queue, so that every step's label is kept."""

from __future__ import annotations

from collections.abc import Mapping

from fhi_al.core.label import Label, Origin
from fhi_al.labels.serial_queue import LabelQueue
from fhi_al.labels.validation import LabelRequest
from fhi_al.md.evaluation import Evaluation, MovingStructure
from fhi_al.md.point import MDFailure


class ReferenceForces:
    """Forces of one system from the reference engine, through the queue.

    Parameters
    ----------
    queue : LabelQueue
    system : int
        Index of the system.
    md_step : int
        MD step of the next call, for the labels' origin.
    """

    def __init__(self, queue: LabelQueue, system: int, md_step: int) -> None:
        self._queue = queue
        self._system = system
        self._md_step = md_step

    def __call__(self, pending: Mapping[int, MovingStructure]) -> dict[int, Evaluation | MDFailure]:
        """Label structures; a discarded label ends its trajectory's block."""
        self._queue.pump()
        return {place: self._label(structure) for place, structure in pending.items()}

    def _label(self, structure: MovingStructure) -> Evaluation | MDFailure:
        origin = Origin("initial", 0, self._md_step)
        request = LabelRequest(
            self._system, structure.positions.copy(), structure.cell.copy(), origin
        )
        self._md_step += 1
        record = self._queue.label(request)
        if not isinstance(record, Label):
            return MDFailure(f"the label was discarded: {record.reason}")
        return Evaluation(record.forces, record.stress)
