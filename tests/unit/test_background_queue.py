"""The queue of parallel mode, on a real engine whose results come when the test says so."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from label_parts import bits
from mpi4py import MPI

from fhi_al.core.errors import EngineError
from fhi_al.core.label import Label, Origin, Phase
from fhi_al.core.plausible import LabelLimits
from fhi_al.core.structure import structure
from fhi_al.engines.ase_calculator import AseEngine
from fhi_al.engines.spec import AseSpec
from fhi_al.labels.background_queue import BackgroundLabelQueue
from fhi_al.labels.completion_log import CompletionLog
from fhi_al.labels.crash_trace import CallRecord
from fhi_al.labels.engine_service import EngineService
from fhi_al.labels.mpi_workers import OwnWorker
from fhi_al.labels.store import LabelStore
from fhi_al.labels.validation import LabelRequest, LabelValidator, TooManyFailures
from fhi_al.labels.workers import Finished, Job, Workers
from fhi_al.process.soft_stop import SoftStop, Stopped

AL = structure(bulk("Al", cubic=True).numbers, bulk("Al", cubic=True).positions, 4.05 * np.eye(3))


class EmtWorkers:
    """Two engines; what they compute is out when it is released."""

    in_background = True
    ends_soon = True

    def __init__(self, n_workers: int = 2) -> None:
        self.engine = AseEngine(AseSpec("ase.calculators.emt:EMT", AL))
        self.jobs: list[Job] = []
        self.begun: list[str] = []
        self.out: list[Finished] = []
        self.n_workers = n_workers
        self.systems = {0, 1}
        self.is_closed = False

    def n_free(self) -> int:
        return self.n_workers - len(self.jobs)

    def can_begin(self, system: int) -> bool:
        return self.n_free() > 0 and system in self.systems

    def begin(self, job: Job) -> None:
        assert self.can_begin(job.system)
        self.jobs.append(job)
        self.begun.append(job.key)

    def release(self, key: str, failure: str | EngineError | None = None) -> None:
        (job,) = (job for job in self.jobs if job.key == key)
        self.jobs.remove(job)
        result = failure or self.engine.calculate(job.positions, job.cell)
        self.out.append(Finished(key, result, 0.1))

    def collect(self) -> list[Finished]:
        out, self.out = self.out, []
        return out

    def busy_seconds(self) -> dict[int, float]:
        return {}

    def close(self) -> None:
        self.is_closed = True


@contextmanager
def untimed() -> Iterator[None]:
    yield


def queue_in(folder: Path, workers: Workers, max_failures: int = 3) -> BackgroundLabelQueue:
    validator = LabelValidator(
        [AL, AL],
        LabelStore(folder / "labels.jsonl"),
        limits=LabelLimits(100.0, 50.0),
        e0_sums=[None, None],
        max_failures=max_failures,
        last_output=lambda: "the engine's own words",
    )
    return BackgroundLabelQueue(
        validator,
        workers,
        CompletionLog(folder / "order.jsonl"),
        waiting=untimed,
        check_stop=SoftStop(folder).check,
    )


def on_rank_0(folder: Path) -> BackgroundLabelQueue:
    """The queue where no rank is left for labels; asked to stop by a file."""
    spec, calls = AseSpec("ase.calculators.emt:EMT", AL), CallRecord(folder)
    engines = EngineService(MPI.COMM_SELF, [spec, spec], calls.traces, alone=True)
    return queue_in(folder, OwnWorker(engines, calls, untimed))


def request(seed: int, phase: Phase = "active_learning") -> LabelRequest:
    shift = 0.05 * np.random.default_rng(seed).standard_normal(AL.positions.shape)
    return LabelRequest(0, AL.positions + shift, AL.cell, Origin(phase, seed, 10))


def of_other(seed: int) -> LabelRequest:
    return replace(request(seed), system=1)


def keys(*seeds: int) -> list[str]:
    return [request(seed).key for seed in seeds]


def polled(queue: BackgroundLabelQueue, wait: bool = False) -> list[int]:
    return [outcome.request.origin.trajectory for outcome in queue.poll(wait=wait)]


def test_results_come_when_they_arrive_and_are_stored_at_once(tmp_path: Path) -> None:
    workers = EmtWorkers()
    queue = queue_in(tmp_path, workers)
    for seed in (1, 2, 3):
        queue.submit(request(seed))
    assert workers.begun == keys(1, 2)
    assert polled(queue) == []
    workers.release(keys(2)[0])
    queue.pump()
    assert keys(2)[0] in LabelStore(tmp_path / "labels.jsonl")
    assert workers.begun == keys(1, 2, 3)  # the free engine has gone on, although nobody looked
    workers.release(keys(1)[0])
    assert polled(queue) == [2, 1]
    assert polled(queue) == []
    fresh = AseEngine(AseSpec("ase.calculators.emt:EMT", AL)).calculate(
        request(2).positions, AL.cell
    )
    label = queue.validator.store.label(keys(2)[0])
    assert label.energy == fresh.energy
    assert np.array_equal(label.forces, fresh.forces)


def test_a_result_that_nobody_has_polled_is_not_counted_yet(tmp_path: Path) -> None:
    workers = EmtWorkers()
    queue = queue_in(tmp_path, workers)
    for seed in (1, 2):
        queue.submit(request(seed))
    workers.release(keys(2)[0])
    queue.pump()
    assert queue.validator.store.n_computed == 1 and not queue.validator.given
    assert polled(queue) == [2]
    assert list(queue.validator.given) == keys(2)
    # Whoever repeats the order of events counts it at the same look.
    resumed = queue_in(tmp_path, EmtWorkers())
    for seed in (1, 2):
        resumed.submit(request(seed))
    assert not resumed.validator.given
    assert polled(resumed) == [2]
    assert list(resumed.validator.given) == keys(2)


def test_waiting_ends_with_the_first_result(tmp_path: Path) -> None:
    workers = EmtWorkers()
    queue = queue_in(tmp_path, workers)
    queue.submit(request(1))
    timer = threading.Timer(0.05, workers.release, [keys(1)[0]])
    timer.start()
    assert polled(queue, wait=True) == [1]
    timer.join()


def test_sanity_checks_queue_up_behind_real_labels(tmp_path: Path) -> None:
    workers = EmtWorkers(n_workers=1)
    queue = queue_in(tmp_path, workers)
    for seed, phase in enumerate(("active_learning", "sanity", "sanity", "active_learning")):
        queue.submit(request(seed, phase))
    for _ in range(4):
        workers.release(workers.begun[-1])
        queue.pump()
    assert workers.begun == keys(0, 3, 1, 2)


def test_a_structure_asked_for_twice_is_computed_once(tmp_path: Path) -> None:
    workers = EmtWorkers()
    queue = queue_in(tmp_path, workers)
    queue.submit(request(1))
    queue.submit(request(1))
    workers.release(keys(1)[0])
    assert polled(queue) == [1, 1]
    queue.submit(request(1))
    assert polled(queue) == [1]
    assert workers.begun == keys(1)


def by(trajectory: int, seed: int, phase: Phase = "active_learning") -> LabelRequest:
    """A trajectory's request for the structure of a seed."""
    return replace(request(seed), origin=Origin(phase, trajectory, 10))


def test_who_waits_for_a_label_leaves_the_others_theirs(tmp_path: Path) -> None:
    workers = EmtWorkers()
    queue = queue_in(tmp_path, workers)
    queue.submit(by(4, seed=1))
    queue.submit(by(5, seed=1))
    workers.release(keys(1)[0])
    assert queue.label(by(6, seed=1)) is queue.validator.store.label(keys(1)[0])
    assert polled(queue) == [4, 5]
    assert polled(queue) == []


def test_a_request_that_is_withdrawn_leaves_the_others_theirs(tmp_path: Path) -> None:
    workers = EmtWorkers(n_workers=1)
    queue = queue_in(tmp_path, workers)
    for each in (request(1), by(4, seed=2), by(5, seed=2), by(6, seed=2), request(3)):
        queue.submit(each)
    withdrawn = queue.withdraw([by(5, seed=2), request(3), by(4, seed=2)])
    assert [each.origin.trajectory for each in withdrawn] == [5, 4, 3]
    for seed in (1, 2):
        workers.release(keys(seed)[0])
        queue.pump()
    assert polled(queue) == [1, 6]
    assert workers.begun == keys(1, 2)


def test_what_a_sanity_check_waits_for_is_as_urgent_as_who_else_needs_it(tmp_path: Path) -> None:
    workers = EmtWorkers(n_workers=1)
    queue = queue_in(tmp_path, workers)
    for each in (request(1), request(3, "sanity"), by(4, seed=2, phase="sanity"), by(5, seed=2)):
        queue.submit(each)
    for _ in range(3):
        workers.release(workers.begun[-1])
        queue.pump()
    assert workers.begun == keys(1, 2, 3)


def test_what_was_withdrawn_is_withdrawn_again_once_it_is_submitted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workers = EmtWorkers(n_workers=1)
    queue = queue_in(tmp_path, workers)
    queue.submit(request(1))
    queue.submit(request(2))
    assert [each.key for each in queue.withdraw([request(2)])] == keys(2)
    free = EmtWorkers()  # one of which is free for it
    resumed = queue_in(tmp_path, free)
    resumed.submit(request(1))
    resumed.submit(request(2))
    assert free.begun == keys(1)  # not computed in vain
    assert [each.key for each in resumed.withdraw([request(2)])] == keys(2)
    assert "cannot be repeated" not in caplog.text
    unlike = queue_in(tmp_path, EmtWorkers())
    assert unlike.withdraw([request(2)]) == []
    assert "cannot be repeated" in caplog.text


def test_only_what_no_engine_has_begun_can_be_taken_back(tmp_path: Path) -> None:
    workers = EmtWorkers(n_workers=1)
    queue = queue_in(tmp_path, workers)
    for seed in (1, 2, 3):
        queue.submit(request(seed))
    withdrawn = queue.withdraw([request(1), request(3)])
    assert [each.key for each in withdrawn] == keys(3)
    for seed in (1, 2):
        workers.release(keys(seed)[0])
        queue.pump()
    assert polled(queue) == [1, 2]
    assert workers.begun == keys(1, 2)


def test_an_aimd_step_is_waited_for_and_something_else_done_meanwhile(tmp_path: Path) -> None:
    workers = EmtWorkers()
    queue = queue_in(tmp_path, workers)
    done: list[int] = []

    def train_a_batch() -> bool:
        done.append(len(done))
        if len(done) == 3:
            workers.release(keys(1)[0])
        return True

    queue.while_waiting = train_a_batch
    assert isinstance(queue.label(request(1)), Label)
    assert done == [0, 1, 2]


def test_another_launch_sees_the_same_at_the_same_looks(tmp_path: Path) -> None:
    workers = EmtWorkers()
    queue = queue_in(tmp_path, workers)
    queue.submit(request(1))
    queue.submit(request(2))
    assert polled(queue) == []
    workers.release(keys(2)[0])
    assert polled(queue) == [2]
    queue.submit(request(3))
    workers.release(keys(1)[0])
    queue.pump()  # stored, and nobody has seen it when the run is killed
    again = EmtWorkers()
    resumed = queue_in(tmp_path, again)
    resumed.submit(request(1))
    resumed.submit(request(2))
    assert polled(resumed) == []  # although both are in the store
    assert polled(resumed) == [2]
    resumed.submit(request(3))
    assert polled(resumed) == [1]  # from here on, live
    assert again.begun == keys(3)
    assert bits(resumed.validator.store.label(keys(1)[0])) == bits(
        queue.validator.store.label(keys(1)[0])
    )


def test_an_order_that_does_not_fit_is_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workers = EmtWorkers()
    queue = queue_in(tmp_path, workers)
    queue.submit(request(1))
    workers.release(keys(1)[0])
    assert polled(queue) == [1]
    other = EmtWorkers()
    changed = queue_in(tmp_path, other)
    changed.submit(request(7))
    other.release(keys(7)[0])
    assert polled(changed) == [7]
    assert "cannot be repeated any further" in caplog.text


def test_failures_are_rejected_and_counted_in_the_order_they_are_seen(tmp_path: Path) -> None:
    workers = EmtWorkers()
    queue = queue_in(tmp_path, workers, max_failures=2)
    for seed in (1, 2):
        queue.submit(request(seed))
        workers.release(keys(seed)[0], failure="the job was lost 3 times")
        queue.pump()
    assert queue.validator.failures_in_row == 0
    with pytest.raises(TooManyFailures, match="lost 3 times"):
        queue.poll(wait=False)
    assert queue.validator.store.n_rejected == 2


def test_a_broken_engine_does_not_lose_what_others_have_finished(tmp_path: Path) -> None:
    workers = EmtWorkers()
    queue = queue_in(tmp_path, workers)
    queue.submit(request(1))
    queue.submit(request(2))
    workers.release(keys(1)[0], failure=EngineError("out of licences"))
    workers.release(keys(2)[0])
    with pytest.raises(EngineError, match=r"(?s)out of licences.*the engine's own words"):
        queue.pump()
    stored = LabelStore(tmp_path / "labels.jsonl")
    assert [key in stored for key in keys(1, 2)] == [False, True]


def test_closing_waits_for_the_calculations_under_way(tmp_path: Path) -> None:
    workers = EmtWorkers(n_workers=1)
    queue = queue_in(tmp_path, workers)
    queue.submit(request(1))
    queue.submit(request(2))
    timer = threading.Timer(0.05, workers.release, [keys(1)[0]])
    timer.start()
    queue.close()
    timer.join()
    assert workers.is_closed
    assert workers.begun == keys(1)  # nothing new is begun
    assert keys(1)[0] in LabelStore(tmp_path / "labels.jsonl")


def test_preferred_structures_are_begun_first_and_sanity_checks_last(tmp_path: Path) -> None:
    workers = EmtWorkers(n_workers=1)
    queue = queue_in(tmp_path, workers)
    sanity = request(4, phase="sanity")
    requests = [request(k) for k in range(4)]
    for each in (requests[0], sanity, *requests[1:]):
        queue.submit(each)
    keys = [each.key for each in requests]
    queue.prefer([sanity.key, keys[3], keys[1]])
    for _ in range(5):
        workers.release(workers.begun[-1])
        queue.pump()
    assert workers.begun == [keys[0], keys[3], keys[1], keys[2], sanity.key]


def test_a_worker_gets_the_first_structure_that_it_can_compute(tmp_path: Path) -> None:
    workers = EmtWorkers(n_workers=1)
    workers.systems = {1}
    queue = queue_in(tmp_path, workers)
    for each in (request(1), request(2), of_other(3), of_other(4)):
        queue.submit(each)
    assert workers.begun == [of_other(3).key]
    workers.systems = {0, 1}
    workers.release(of_other(3).key)
    queue.pump()
    # The one that waited longest, not the system that was served before.
    assert workers.begun == [of_other(3).key, *keys(1)]


def test_where_rank_0_computes_a_poll_computes_one_label_and_nothing_else_does(
    tmp_path: Path,
) -> None:
    queue = on_rank_0(tmp_path)
    for seed in (1, 2, 3):
        queue.submit(request(seed))
    queue.pump()
    assert [each.key for each in queue.withdraw([request(2)])] == keys(2)
    assert len(queue.validator.store) == 0
    assert polled(queue) == [1]
    assert polled(queue, wait=True) == [3]
    assert isinstance(queue.label(request(4)), Label)
    assert polled(queue) == []
    queue.close()
    assert len(queue.validator.store) == 3


@pytest.mark.parametrize("wait", [True, False])
def test_rank_0_asked_to_stop_begins_no_label_and_computes_the_same_ones_later(
    tmp_path: Path, wait: bool
) -> None:
    queue = on_rank_0(tmp_path)
    for seed in (1, 2, 3):
        queue.submit(request(seed))
    assert polled(queue) == [1]
    (tmp_path / "STOP").touch()  # once: the request is remembered
    for seed in (4, 5):
        queue.submit(request(seed))
    with pytest.raises(Stopped):
        queue.poll(wait=wait)
    with pytest.raises(Stopped):
        queue.label(request(6))
    queue.close()
    assert [record.key for record in queue.validator.store] == keys(1)
    resumed = on_rank_0(tmp_path)
    for seed in (1, 2, 3):
        resumed.submit(request(seed))
    assert polled(resumed) == [1]  # as recorded
    for seed in (4, 5):
        resumed.submit(request(seed))
    assert [polled(resumed, wait) for _ in range(5)] == [[2], [3], [4], [5], []]
    resumed.close()
