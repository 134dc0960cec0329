"""Label pools: structures in, trusted labels or reasons out.  Imports no torch.

A pool asks the store first, then the engine; judges the result; and writes it to the disk before
anybody sees it.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from fhi_al.core.label import Label, Origin
from fhi_al.core.plausible import EnergyReference, LabelLimits, label_problem
from fhi_al.core.structure import Array, Structure, geometry_key
from fhi_al.dataset import LabelStore, Rejected
from fhi_al.reference.crash_trace import MOST_ATTEMPTS, CallRecord
from fhi_al.reference.engine import EngineError, ReferenceResult

log = logging.getLogger(__name__)

LONG_LABEL_S = 10.0


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


@dataclass(frozen=True, eq=False)
class Outcome:
    """The answer to a request: a label, or why there is none."""

    request: LabelRequest
    record: Label | Rejected


class LabelPool(Protocol):
    """Labels structures, now or later, here or elsewhere.

    Attributes
    ----------
    failures_in_row : int
        Labels discarded since the last good one; part of the run's state.
    """

    failures_in_row: int

    def submit(self, request: LabelRequest) -> None:
        """Hand in a structure."""
        ...

    def poll(self) -> list[Outcome]:
        """What is finished by now, in the order it was handed in."""
        ...

    def label(self, request: LabelRequest) -> Label | Rejected:
        """One label, waited for."""
        ...


class TooManyFailures(EngineError):
    """The engine failed so often in a row that going on would waste hours."""


class Engines(Protocol):
    """The engines of a run, one per system, as :class:`fhi_al.reference.service.EngineService`."""

    def start(self, system: int) -> None:
        """Make ready for calculations."""
        ...

    def calculate(self, system: int, positions: Array, cell: Array) -> ReferenceResult:
        """Compute a structure: positions and cell in A."""
        ...

    def ranks(self, system: int) -> int:
        """How many ranks take part in a calculation."""
        ...

    def last_words(self) -> str:
        """The engines' own last lines; may be empty."""
        ...


class SerialLabelPool:
    """Labels one structure after the other, with all ranks of the engine in each call.

    Parameters
    ----------
    systems : sequence of Structure
        One per geometry.in.
    engines : Engines
    store : LabelStore
    calls : CallRecord
        Says on which structure an engine died before.
    limits : LabelLimits
        What a label must not exceed.
    e0_sums : sequence of float or None
        Sum of the E0s the user gave, in eV, for each system.
    max_failures : int
        Failures in a row that stop the run.
    timed : callable
        Returns a context manager under which the engine's time is booked.
    before_each : callable
        Called before each calculation; may raise to stop the run there, which loses nothing: a
        resumed run finds all labels before this one in the store.
    """

    def __init__(
        self,
        systems: Sequence[Structure],
        engines: Engines,
        store: LabelStore,
        calls: CallRecord,
        *,
        limits: LabelLimits,
        e0_sums: Sequence[float | None],
        max_failures: int,
        timed: Callable[[], AbstractContextManager[None]],
        before_each: Callable[[], None] = lambda: None,
    ) -> None:
        self.store = store
        self._systems = systems
        self._engines = engines
        self._calls = calls
        self._limits = limits
        self._e0_sums = e0_sums
        self._max_failures = max_failures
        self._timed = timed
        self._before_each = before_each
        self.failures_in_row = 0
        self._queue: deque[LabelRequest] = deque()

    def submit(self, request: LabelRequest) -> None:
        """Queue a structure for the next ``poll``."""
        self._queue.append(request)

    def poll(self) -> list[Outcome]:
        """Label the next structure in the queue.

        Raises
        ------
        TooManyFailures
            After ``max_failures`` failures in a row.
        EngineError
            If the engine is broken.
        """
        if not self._queue:
            return []
        request = self._queue.popleft()
        return [Outcome(request, self.label(request))]

    def label(self, request: LabelRequest) -> Label | Rejected:
        """Label one structure, past the queue; from the store if it is there.

        Raises
        ------
        TooManyFailures, EngineError
            As ``poll``.
        """
        known = self.store.get(request.key)
        if known is None:
            known = self._compute(request)
        self._count_failures(known)
        return known

    def _compute(self, request: LabelRequest) -> Label | Rejected:
        crashes = self._calls.crashes(request.key)
        if crashes >= MOST_ATTEMPTS:
            rejected = self._stored(request, f"the engine died on it {crashes} times")
            self._calls.forget()
            return rejected
        self._before_each()
        # Apart: an engine that does not start is not the structure's fault.
        self._engines.start(request.system)
        started = time.monotonic()
        try:
            with self._timed(), self._calls.of(request.key, self._engines.ranks(request.system)):
                result = self._engines.calculate(request.system, request.positions, request.cell)
        except EngineError as error:
            raise EngineError(f"reference engine: {error}{self._last_words()}") from error
        wall_s = time.monotonic() - started
        # Seconds of xTB labels would drown everything else; minutes of DFT are worth a line.
        level = logging.INFO if wall_s > LONG_LABEL_S else logging.DEBUG
        log.log(level, "label %d computed in %.1f s", len(self.store) + 1, wall_s)
        return self._stored(request, result)

    def _last_words(self) -> str:
        words = self._engines.last_words()
        return f"\nThe engine's last lines:\n{words}" if words else ""

    def _stored(self, request: LabelRequest, result: ReferenceResult | str) -> Label | Rejected:
        """Write a result, or why there is none, to the disk."""
        record = self._judged(request, result)
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

    def _count_failures(self, record: Label | Rejected) -> None:
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
                + self._last_words()
            )
