"""The label queue of parallel mode: workers compute while the caller does other things.

Where rank 0 is the only worker, a structure is computed where one is asked for or waited for.

Owns the queue (labels for the sets first, sanity checks behind them) and what has arrived and was
not asked for yet.  A result is stored when it arrives; when the caller sees it is part of the
recorded order of events.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from fhi_al.core.errors import EngineError
from fhi_al.core.label import Label
from fhi_al.labels.completion_log import CompletionLog
from fhi_al.labels.serial_queue import Outcome, log_duration
from fhi_al.labels.store import Rejected
from fhi_al.labels.validation import LabelRequest, LabelValidator
from fhi_al.labels.waiting_line import Urgency, WaitingLine
from fhi_al.labels.workers import Finished, Job, Workers
from fhi_al.parallel.mpi import Nap

log = logging.getLogger(__name__)


class BackgroundLabelQueue:
    """Labels structures with workers that compute in the background.

    Parameters
    ----------
    validator : LabelValidator
    workers : Workers
    completion_log : CompletionLog
    waiting : callable
        Returns a context manager under which time without work is booked.
    check_stop : callable
        Called while there is nothing to do but wait, and before each calculation of rank 0; may
        raise to stop the run.

    Attributes
    ----------
    while_waiting : callable
        Does a little of something else; returns False if there is nothing to do.
    """

    # A poll gives all that has arrived; what is computed still is for a later one.
    has_more = False

    def __init__(
        self,
        validator: LabelValidator,
        workers: Workers,
        completion_log: CompletionLog,
        *,
        waiting: Callable[[], AbstractContextManager[None]],
        check_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self.validator = validator
        self._workers = workers
        self._completion_log = completion_log
        self._waiting = waiting
        self._check_stop = check_stop
        self.while_waiting: Callable[[], bool] = lambda: False
        self._requests: dict[str, list[LabelRequest]] = {}
        self._line = WaitingLine()
        self._computing: dict[str, LabelRequest] = {}
        # Keys, in the order in which their results came.
        self._arrived: dict[str, None] = {}
        self._places: dict[str, int] = {}

    def submit(self, request: LabelRequest) -> None:
        """Queue a structure; sanity checks go behind the others."""
        key = request.key
        self._completion_log.submitted(key)
        self._requests.setdefault(key, []).append(request)
        # The same structure twice is computed once.
        if len(self._requests[key]) == 1 and key in self.validator.store:
            self._arrived[key] = None
            return
        if key not in self._computing and key not in self._arrived:
            self._line.put(key, request.system, self._urgency(key))
        self.pump()

    def prefer(self, keys: Sequence[str]) -> None:
        """Compute these structures first, in this order, of those that are not begun yet.

        Sanity checks stay behind the others.
        """
        self._places = {key: place for place, key in enumerate(keys)}
        self._line.reorder(self._urgency)

    def poll(self, *, wait: bool) -> list[Outcome]:
        """What has arrived by now; with ``wait``, sleep until something has.

        Where rank 0 is the worker, the next structure is computed if nothing has.

        Raises
        ------
        Stopped
            From ``check_stop``.
        TooManyFailures
            After too many failures in a row.
        EngineError
            If the engine is broken.
        """
        self.pump()
        recorded = self._completion_log.recorded()
        if recorded is not None and not self._asked_for(recorded):
            self._go_another_way()
            recorded = None
        if recorded is not None:
            self._sleep_until(lambda: all(key in self._arrived for key in recorded))
        elif self._requests and (wait or not self._workers.in_background):
            self._sleep_until(lambda: bool(self._arrived))
        keys = list(self._arrived) if recorded is None else recorded
        self._completion_log.record(keys)
        return [
            outcome for key in keys for outcome in self._give_out(key, list(self._requests[key]))
        ]

    def label(self, request: LabelRequest) -> Label | Rejected:
        """One label, waited for; others who wait for the same structure get theirs by ``poll``.

        Raises
        ------
        TooManyFailures, EngineError
            As ``poll``.
        """
        key = request.key
        self.submit(request)
        self._sleep_until(lambda: key in self._arrived)
        return self._give_out(key, [request])[0].record

    def withdraw(self, requests: Sequence[LabelRequest]) -> list[LabelRequest]:
        """Take structures back that no worker has begun; part of the order of events.

        Others who wait for the same structures go on waiting.
        """
        self.pump()
        theirs: dict[str, list[LabelRequest]] = {}
        for request in requests:
            theirs.setdefault(request.key, []).append(request)
        recorded = self._completion_log.recorded()
        known = theirs.keys() & self._requests.keys()
        if recorded is not None and not known.issuperset(recorded):
            self._go_another_way()
            recorded = None
        if recorded is None:
            recorded = [key for key in self._line.in_order() if key in theirs]
        self._completion_log.record(recorded, withdrawn=True)
        for key in recorded:
            for request in theirs[key]:
                self._drop(key, request)
        # Of some a sanity check may be left.
        self._line.reorder(self._urgency)
        return [request for key in recorded for request in theirs[key]]

    def _drop(self, key: str, request: LabelRequest) -> None:
        waiting = self._requests[key]
        del waiting[next(k for k, each in enumerate(waiting) if each.origin == request.origin)]
        if not waiting:
            del self._requests[key]
            # In a repeated order its calculation may have begun: it then comes for nobody.
            self._line.discard(key)
            self._arrived.pop(key, None)

    def pump(self) -> None:
        """Store what the workers have finished and give them the next structures.

        Nothing where rank 0 is the worker: who pumps cannot be stopped in the midst of it.

        Raises
        ------
        EngineError
            If the engine is broken.
        OSError
            If the disk does not take a label.
        """
        if self._workers.in_background:
            self._take_results()
            self._begin_next()

    def _take_results(self) -> None:
        errors = self._collect()
        if errors:
            raise errors[0]

    def _begin_next(self) -> None:
        while self._line and self._workers.n_free() > 0:  # most calls: after every MD step
            key = self._line.next(
                self._workers.can_begin, lambda key: not self._completion_log.is_taken_back(key)
            )
            if key is None:
                break
            self._line.discard(key)
            request = self._requests[key][0]
            self._computing[request.key] = request
            self._workers.begin(Job(request.key, request.system, request.positions, request.cell))

    def close(self) -> None:
        """Wait for the calculations under way, unless that may take for ever; store them.

        Then let the workers go.

        Raises
        ------
        EngineError, OSError
            What has gone wrong first, when all calculations have come to their end.
        """
        self._line.clear()
        if self._computing and self._workers.ends_soon:
            log.info("waiting for %d label(s) under way", len(self._computing))
        nap = Nap()
        errors: list[Exception] = []
        while self._computing and self._workers.ends_soon:
            errors += self._collect()
            nap.take()
        self._workers.close()
        if errors:
            raise errors[0]

    def _collect(self) -> list[Exception]:
        """Store all that has come; what went wrong with some must not lose the others."""
        errors: list[Exception] = []
        for finished in self._workers.collect():
            try:
                self._store(finished)
            except (EngineError, OSError) as error:
                errors.append(error)
        return errors

    def _store(self, finished: Finished) -> None:
        request = self._computing.pop(finished.key)
        if not isinstance(finished.result, EngineError):
            log_duration(len(self.validator.store) + 1, finished.seconds)
        self.validator.store_result(request, finished.result)
        if finished.key in self._requests:
            self._arrived[finished.key] = None

    def _give_out(self, key: str, requests: Sequence[LabelRequest]) -> list[Outcome]:
        """The outcomes of some of those who wait for a structure that has arrived."""
        record = self.validator.store.get(key)
        assert record is not None
        outcomes = [Outcome(request, record) for request in requests]
        for outcome in outcomes:
            self._drop(key, outcome.request)
            self.validator.count(outcome.record)
        return outcomes

    def _sleep_until(self, happened: Callable[[], bool]) -> None:
        nap = Nap()
        with self._waiting():
            while not happened():
                if self.while_waiting():
                    nap = Nap()
                elif self._workers.in_background:
                    nap.take()
                # Last: where rank 0 is the worker, an hour of DFT may follow.
                self._check_stop()
                if self._workers.in_background:
                    self.pump()
                else:
                    self._begin_next()
                    self._take_results()

    def _asked_for(self, keys: Sequence[str]) -> bool:
        return all(key in self._requests for key in keys)

    def _go_another_way(self) -> None:
        log.warning(
            "%s: the order of events cannot be repeated any further, the inputs or the number of "
            "threads have changed; going on without it. Labels that are not asked for again stay "
            "in the store",
            self._completion_log.path,
        )
        self._completion_log.discard_rest()

    def _urgency(self, key: str) -> Urgency:
        # Of those as urgent first come, first served.
        return self._is_sanity_check(key), self._places.get(key, len(self._places))

    def _is_sanity_check(self, key: str) -> bool:
        return all(request.origin.phase == "sanity" for request in self._requests[key])
