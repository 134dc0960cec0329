"""Validation of what an engine gives: results in, trusted labels or reasons out.

Writes them to the disk before anybody sees them.  Counts what was discarded.  Imports no torch.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fhi_al.core.errors import EngineError
from fhi_al.core.label import Label, Origin
from fhi_al.core.plausible import EnergyReference, LabelLimits, label_problem
from fhi_al.core.structure import Array, Structure, geometry_key
from fhi_al.engines.engine import ReferenceResult
from fhi_al.labels.store import LabelStore, Rejected

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LabelRequest:
    """A structure that needs a label: its system, positions and cell (A), and who asks."""

    system: int
    positions: Array
    cell: Array
    origin: Origin

    @property
    def key(self) -> str:
        """Name of the geometry."""
        return geometry_key(self.system, self.positions, self.cell)

    def is_same_as(self, other: LabelRequest) -> bool:
        """Whether both are of one structure, for one and the same purpose."""
        return self.origin == other.origin and self.key == other.key


class TooManyFailures(EngineError):
    """The engine failed so often in a row that going on would waste hours."""


class LabelValidator:
    """Results in, trusted labels or reasons out.

    Parameters
    ----------
    systems : sequence of Structure
        One per geometry.in.
    store : LabelStore
    limits : LabelLimits
        What a label must not exceed.
    e0_sums : sequence of float or None
        Sum of the E0s the user gave, in eV, for each system.
    max_failures : int
        Failures in a row that stop the run.
    last_output : callable
        The engines' own last lines; may be empty.
    wants_stress : bool
        A result without a stress is an error of the engine.

    Attributes
    ----------
    failures_in_row : int
        Labels discarded since the last good one; part of the run's state.
    """

    def __init__(
        self,
        systems: Sequence[Structure],
        store: LabelStore,
        *,
        limits: LabelLimits,
        e0_sums: Sequence[float | None],
        max_failures: int,
        last_output: Callable[[], str] = lambda: "",
        wants_stress: bool = False,
    ) -> None:
        self.store = store
        self._systems = systems
        self._limits = limits
        self._e0_sums = e0_sums
        self._max_failures = max_failures
        self._last_output = last_output
        self._wants_stress = wants_stress
        self.failures_in_row = 0

    def last_output(self) -> str:
        """What the engines say of themselves, to be put behind a message."""
        output = self._last_output()
        return f"\nThe engine's last lines:\n{output}" if output else ""

    def store_result(
        self, request: LabelRequest, result: ReferenceResult | str
    ) -> Label | Rejected:
        """Write a result, or why there is none, to the disk.

        Raises
        ------
        EngineError
            If it has no stress where one is wanted: no other would have.
        """
        record = self._judged(request, result)
        if self._wants_stress and isinstance(record, Label) and record.stress is None:
            raise EngineError(
                "reference engine: gave a label without the stress that GENERAL.compute_stress"
                " asks for: expected (3, 3) in eV/A^3. Set it to false, or take another engine"
            )
        self.store.append(record)
        if isinstance(record, Rejected):
            log.warning(
                "label discarded (trajectory %d, MD step %d): %s",
                request.origin.trajectory,
                request.origin.step,
                record.reason,
            )
        return record

    def _judged(self, request: LabelRequest, result: ReferenceResult | str) -> Label | Rejected:
        system = self._systems[request.system]
        common: dict[str, Any] = {
            "key": request.key,
            "system": request.system,
            "numbers": system.numbers,
            "positions": request.positions,
            "cell": request.cell,
            "pbc": system.pbc,
            "origin": request.origin,
        }
        if isinstance(result, str):
            return Rejected(**common, reason=result)
        problem = label_problem(
            result.energy,
            result.forces,
            result.converged,
            len(system),
            self._limits,
            result.stress,
            self._energy_reference(request.system),
        )
        if problem is not None:
            return Rejected(**common, reason=f"{problem} {result.message}".strip())
        energy = float(result.energy)
        return Label(**common, energy=energy, forces=result.forces, stress=result.stress)

    def _energy_reference(self, system: int) -> EnergyReference | None:
        e0_sum = self._e0_sums[system]
        if e0_sum is not None:
            return EnergyReference(e0_sum, "the sum of the E0s (ARCHITECTURE.atomic_energies)")
        # What least squares makes of the E0s of one composition.  The store holds the same labels
        # here as in a run that nothing interrupted: a label is computed once, in order.
        energies = [
            record.energy
            for record in self.store
            if isinstance(record, Label) and record.system == system
        ]
        if not energies:
            return None
        return EnergyReference(math.fsum(energies) / len(energies), "the mean of the labels so far")

    def count(self, record: Label | Rejected) -> None:
        """Count a result that is given out.

        Raises
        ------
        TooManyFailures
            After ``max_failures`` discarded ones in a row.
        """
        if isinstance(record, Label):
            self.failures_in_row = 0
            return
        self.failures_in_row += 1
        if self.failures_in_row >= self._max_failures:
            raise TooManyFailures(
                f"reference engine: the last {self.failures_in_row} labels were discarded "
                f"(max_label_failures = {self._max_failures}), the last one because "
                f"{record.reason}: expected labels that converge. Look at the engine's output and "
                "its settings, or start from another geometry or temperature, then run again."
                + self.last_output()
            )
