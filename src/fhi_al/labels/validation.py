"""Validation of what an engine gives: results in, trusted labels or reasons out.

Writes them to the disk before anybody sees them.  Counts what was discarded.  Imports no torch.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fhi_al.core.errors import CannotCompute, EngineError
from fhi_al.core.label import Label, Origin
from fhi_al.core.plausible import EnergyReference, LabelLimits, label_problem
from fhi_al.core.structure import Array, Structure, geometry_key
from fhi_al.engines.engine import ReferenceResult
from fhi_al.labels.store import LabelStore, Rejected

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LabelRequest:
    """A structure that needs a label: its system, positions and cell (A), and who asks.

    Where systems have no lasting number, ``identity`` takes the place of ``system`` in the name of
    the geometry.
    """

    system: int
    positions: Array
    cell: Array
    origin: Origin
    identity: int | None = None

    @cached_property
    def key(self) -> str:
        """Name of the geometry."""
        number = self.system if self.identity is None else self.identity
        return geometry_key(number, self.positions, self.cell)

    @property
    def purpose(self) -> tuple[Origin, str]:
        """Equal for requests of one structure for one and the same purpose."""
        return self.origin, self.key


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
        A result of a crystal without a stress is an error of the engine.
    keeps_uncomputable : bool
        A structure of which the engine says that it can compute none like it is rejected like any
        other; else the run ends.

    Attributes
    ----------
    failures_in_row : int
        Labels discarded since the last good one; part of the run's state.
    given : dict
        Keys of the computed results, discarded ones included, that were given out, in this order;
        part of the run's state.  What budgets are compared with: the store may hold more, that a
        run has not asked for yet, or whose arrival it has not seen.
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
        keeps_uncomputable: bool = False,
    ) -> None:
        self.store = store
        self._systems = systems
        self._limits = limits
        self._e0_sums = e0_sums
        self._max_failures = max_failures
        self._last_output = last_output
        self._wants_stress = wants_stress
        self._keeps_uncomputable = keeps_uncomputable
        self.failures_in_row = 0
        self.given: dict[str, None] = {}

    def last_output(self) -> str:
        """What the engines say of themselves, to be put behind a message."""
        output = self._last_output()
        return f"\nThe engine's last lines:\n{output}" if output else ""

    def store_result(
        self, request: LabelRequest, result: ReferenceResult | str | EngineError
    ) -> Label | Rejected:
        """Write a result, or why there is none, to the disk.

        Raises
        ------
        EngineError
            If that is what came in place of a result; or if it has no stress where one is wanted:
            no other would have.
        """
        if isinstance(result, EngineError):
            if not (self._keeps_uncomputable and isinstance(result, CannotCompute)):
                message = f"reference engine: {result}{self.last_output()}"
                raise type(result)(message) from result
            result = str(result)
        record = self._judged(request, result)
        if not isinstance(record, Rejected) and self._lacks_stress(record):
            raise EngineError(
                "reference engine: gave a label without the stress that GENERAL.compute_stress (or"
                " --stress) asks for: expected (3, 3) in eV/A^3. Do without, or take another engine"
            )
        self.store.append(record)
        if isinstance(record, Rejected):
            log.warning("label discarded (%s): %s", request.origin.place, record.reason)
        return record

    def _lacks_stress(self, label: Label) -> bool:
        return self._wants_stress and label.pbc and label.stress is None

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
        if math.isinf(self._limits.max_energy_per_atom):
            return None
        # What least squares makes of the E0s of one composition.  The store holds the same labels
        # here as in a run that nothing interrupted: a label is computed once, in order.
        mean = self.store.mean_energy(system)
        return None if mean is None else EnergyReference(mean, "the mean of the labels so far")

    def known_labels(self) -> list[Label]:
        """The labels that were given out or imported, in the order of the store."""
        return [
            record
            for record in self.store
            if isinstance(record, Label)
            and (record.key in self.given or record.origin.phase == "imported")
        ]

    def count(self, record: Label | Rejected) -> None:
        """Count a result that is given out.

        Raises
        ------
        TooManyFailures
            After ``max_failures`` discarded ones in a row.
        """
        if record.origin.phase != "imported":
            self.given[record.key] = None
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
