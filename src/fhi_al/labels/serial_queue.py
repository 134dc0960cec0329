"""Label queues: structures in, trusted labels or reasons out.  Imports no torch.

A queue asks the store first, then the engine; what the engine gives is validated and written to the
disk before anybody sees it.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from fhi_al.core.errors import EngineError
from fhi_al.core.label import Label
from fhi_al.core.structure import Array
from fhi_al.engines.engine import ReferenceResult
from fhi_al.labels.crash_trace import MOST_ATTEMPTS, CallRecord
from fhi_al.labels.store import Rejected
from fhi_al.labels.validation import LabelRequest, LabelValidator

log = logging.getLogger(__name__)

LONG_LABEL_S = 10.0


@dataclass(frozen=True, eq=False)
class Outcome:
    """The answer to a request: a label, or why there is none."""

    request: LabelRequest
    record: Label | Rejected


class LabelQueue(Protocol):
    """Labels structures, now or later, here or elsewhere."""

    @property
    def validator(self) -> LabelValidator:
        """Judge of the results."""
        ...

    @property
    def has_more(self) -> bool:
        """Whether the next poll gives a result at once: a queue that computes one at a time."""
        ...

    def submit(self, request: LabelRequest) -> None:
        """Hand in a structure."""
        ...

    def prefer(self, keys: Sequence[str]) -> None:
        """Compute these structures first, in this order, of those that are not begun yet."""
        ...

    def poll(self, *, wait: bool) -> list[Outcome]:
        """What is finished, in the order in which it was; with ``wait``, at least one."""
        ...

    def label(self, request: LabelRequest) -> Label | Rejected:
        """One label, waited for."""
        ...

    def withdraw(self, requests: Sequence[LabelRequest]) -> list[LabelRequest]:
        """Take structures back that are not being computed yet.

        Returns
        -------
        list of LabelRequest
            Those that were taken back.
        """
        ...

    def pump(self) -> None:
        """Called often while the caller computes: takes results in, keeps engines busy."""
        ...

    def close(self) -> None:
        """Store what is being computed, then let the engines go."""
        ...


class Engines(Protocol):
    """One engine per system, as in :class:`fhi_al.labels.engine_service.EngineService`."""

    def start(self, system: int) -> None:
        """Make ready for calculations."""
        ...

    def calculate(self, system: int, positions: Array, cell: Array) -> ReferenceResult:
        """Compute a structure: positions and cell in A."""
        ...

    def ranks(self, system: int) -> tuple[int, ...]:
        """The ranks that take part in a calculation."""
        ...

    def close(self) -> None:
        """Let the engines go."""
        ...


class SerialLabelQueue:
    """Labels one structure after the other, with all ranks of the engine in each call.

    Parameters
    ----------
    validator : LabelValidator
    engines : Engines
    calls : CallRecord
        Says on which structure an engine died before.
    timed : callable
        Returns a context manager under which the engine's time is booked.
    before_each : callable
        Called before each calculation; may raise to stop the run there, which loses nothing: a
        resumed run finds all labels before this one in the store.
    """

    def __init__(
        self,
        validator: LabelValidator,
        engines: Engines,
        calls: CallRecord,
        *,
        timed: Callable[[], AbstractContextManager[None]],
        before_each: Callable[[], None] = lambda: None,
    ) -> None:
        self.validator = validator
        self._engines = engines
        self._calls = calls
        self._timed = timed
        self._before_each = before_each
        self._queue: deque[LabelRequest] = deque()

    @property
    def has_more(self) -> bool:
        """Whether a structure is left for the next ``poll``."""
        return bool(self._queue)

    def submit(self, request: LabelRequest) -> None:
        """Queue a structure for the next ``poll``."""
        self._queue.append(request)

    def prefer(self, keys: Sequence[str]) -> None:
        """Nothing: whoever submits in the order of preference gets it."""

    def poll(self, *, wait: bool = True) -> list[Outcome]:
        """Label the next structure in the queue.

        Raises
        ------
        TooManyFailures
            After too many failures in a row.
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
        known = self.validator.store.get(request.key)
        if known is None:
            known = self._compute(request)
        self.validator.count(known)
        return known

    def withdraw(self, requests: Sequence[LabelRequest]) -> list[LabelRequest]:
        """Take structures back from the queue."""
        queued = {request.purpose for request in self._queue}
        taken = [request for request in requests if request.purpose in queued]
        names = {request.purpose for request in taken}
        self._queue = deque(r for r in self._queue if r.purpose not in names)
        return taken

    def pump(self) -> None:
        """Nothing goes on in the background."""

    def close(self) -> None:
        """Let the engines go."""
        self._engines.close()

    def _compute(self, request: LabelRequest) -> Label | Rejected:
        crashes = self._calls.crashes(request.key)
        if crashes >= MOST_ATTEMPTS:
            rejected = self.validator.store_result(
                request, f"the engine died on it {crashes} times"
            )
            self._calls.forget(request.key)
            return rejected
        self._before_each()
        # Apart: an engine that does not start is not the structure's fault.
        self._engines.start(request.system)
        started = time.monotonic()
        result: ReferenceResult | EngineError
        try:
            with self._timed(), self._calls.of(request.key, self._engines.ranks(request.system)):
                result = self._engines.calculate(request.system, request.positions, request.cell)
        except EngineError as error:
            return self.validator.store_result(request, error)
        log_duration(len(self.validator.store) + 1, time.monotonic() - started)
        return self.validator.store_result(request, result)


def log_duration(number: int, wall_s: float) -> None:
    """Log how long a label took: seconds of xTB would drown everything, minutes of DFT do not."""
    level = logging.INFO if wall_s > LONG_LABEL_S else logging.DEBUG
    log.log(level, "label %d computed in %.1f s", number, wall_s)
