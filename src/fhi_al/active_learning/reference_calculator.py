"""Ab initio MD: the label queue as an ASE calculator, so that every step's label is kept."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from fhi_al.core.label import Label, Origin
from fhi_al.labels.serial_queue import LabelQueue
from fhi_al.labels.validation import LabelRequest
from fhi_al.md.validating import MDFailure


class ReferenceCalculator(Calculator):
    """Energy (eV) and forces (eV/A) of one system from the reference engine, through the queue.

    Parameters
    ----------
    queue : LabelQueue
    system : int
        Index of the system.
    md_step : int
        MD step of the next call, for the labels' origin.
    """

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (ASE's own interface)

    def __init__(self, queue: LabelQueue, system: int, md_step: int) -> None:
        super().__init__()
        self._queue = queue
        self._system = system
        self._md_step = md_step

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Label the structure.

        Raises
        ------
        MDFailure
            If its label was discarded.
        """
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        request = LabelRequest(
            self._system,
            self.atoms.positions.copy(),
            np.array(self.atoms.cell) if self.atoms.pbc.any() else np.zeros((3, 3)),
            Origin("initial", 0, self._md_step),
        )
        self._md_step += 1
        record = self._queue.label(request)
        if not isinstance(record, Label):
            raise MDFailure(f"the label was discarded: {record.reason}")
        self.results = {"energy": record.energy, "forces": record.forces}
