"""The serial label queue on real engines: each geometry once, judged, stored before it is seen."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from label_parts import bits

from fhi_al.core.errors import CannotCompute, EngineError
from fhi_al.core.label import Label, Origin
from fhi_al.core.plausible import LabelLimits
from fhi_al.core.structure import Array, Structure, structure
from fhi_al.engines.ase_calculator import AseEngine
from fhi_al.engines.engine import ReferenceResult
from fhi_al.engines.spec import AseSpec
from fhi_al.engines.tblite import tblite_spec
from fhi_al.labels.crash_trace import CallRecord
from fhi_al.labels.serial_queue import SerialLabelQueue
from fhi_al.labels.store import LabelStore, Rejected
from fhi_al.labels.validation import LabelRequest, LabelValidator, TooManyFailures

AL = structure(bulk("Al", cubic=True).numbers, bulk("Al", cubic=True).positions, 4.05 * np.eye(3))
ETHANOL = structure(molecule("CH3CH2OH").numbers, molecule("CH3CH2OH").positions)
# So few cycles that ethanol converges as it is, and does not when stretched.
XTB = tblite_spec("GFN2-xTB", ETHANOL, {"max_iterations": 25})


class Counted:
    """A real engine that remembers what it was asked."""

    def __init__(self, spec: AseSpec) -> None:
        self.engine = AseEngine(spec)
        self.pending: list[Array] = []

    def start(self, system: int) -> None:
        pass

    def calculate(self, system: int, positions: Array, cell: Array) -> ReferenceResult:
        self.pending.append(positions)
        return self.engine.calculate(positions, cell)

    def ranks(self, system: int) -> tuple[int, ...]:
        return (0,)

    def close(self) -> None:
        self.engine.close()


@contextmanager
def untimed() -> Iterator[None]:
    yield


def queue_on(
    counted: Counted,
    system: Structure,
    path: Path,
    max_force: float = 100.0,
    max_energy_per_atom: float = 50.0,
    e0_sum: float | None = None,
    max_failures: int = 3,
) -> SerialLabelQueue:
    validator = LabelValidator(
        [system],
        LabelStore(path),
        limits=LabelLimits(max_force, max_energy_per_atom),
        e0_sums=[e0_sum],
        max_failures=max_failures,
        last_output=lambda: f"call {len(counted.pending)} was the last",
    )
    return SerialLabelQueue(validator, counted, CallRecord(path.parent), timed=untimed)


def emt(path: Path, **limits: float | None) -> tuple[SerialLabelQueue, Counted]:
    counted = Counted(AseSpec("ase.calculators.emt:EMT", AL, stress=True))
    return queue_on(counted, AL, path, **limits), counted  # type: ignore[arg-type]


def xtb(path: Path, max_failures: int = 3) -> tuple[SerialLabelQueue, Counted]:
    counted = Counted(XTB)
    return queue_on(counted, ETHANOL, path, max_failures=max_failures), counted


def request(system: Structure, seed: int, step: int = 0) -> LabelRequest:
    """A rattled structure; the same seed is the same geometry, whoever asks."""
    shift = 0.05 * np.random.default_rng(seed).standard_normal(system.positions.shape)
    origin = Origin("active_learning", seed, step)
    return LabelRequest(0, system.positions + shift, system.cell, origin)


def stretched(seed: int) -> LabelRequest:
    """Ethanol torn apart: its SCF does not converge in 25 cycles."""
    near = request(ETHANOL, seed)
    return LabelRequest(0, 2.5 * near.positions, ETHANOL.cell, near.origin)


def test_a_label_is_what_the_engine_gave(tmp_path: Path) -> None:
    queue, _ = emt(tmp_path / "labels.jsonl")
    pending = request(AL, 1, step=40)
    label = queue.label(pending)
    assert isinstance(label, Label)
    spec = AseSpec("ase.calculators.emt:EMT", AL, stress=True)
    fresh = AseEngine(spec).calculate(pending.positions, AL.cell)
    assert label.energy == fresh.energy
    assert np.array_equal(label.forces, fresh.forces)
    assert fresh.stress is not None and label.stress is not None
    assert np.array_equal(label.stress, fresh.stress)
    assert np.array_equal(label.numbers, AL.numbers)
    assert np.array_equal(label.positions, pending.positions)
    assert (label.key, label.pbc, label.origin) == (pending.key, True, pending.origin)


def test_what_was_given_counts_once_and_in_another_launch_when_it_is_given_again(
    tmp_path: Path,
) -> None:
    path = tmp_path / "labels.jsonl"
    queue, _ = xtb(path)
    wanted = [request(ETHANOL, 1), stretched(2), request(ETHANOL, 1, step=99)]
    for each in wanted:
        queue.label(each)
    assert list(queue.validator.given) == [wanted[0].key, wanted[1].key]
    # All is in the store, which says nothing of what this launch has asked for.
    resumed, _ = xtb(path)
    assert resumed.validator.store.n_computed == 2
    assert not resumed.validator.given and not resumed.validator.known_labels()
    resumed.submit(wanted[0])
    assert not resumed.validator.given
    resumed.poll()
    assert list(resumed.validator.given) == [wanted[0].key]
    assert [label.key for label in resumed.validator.known_labels()] == [wanted[0].key]


def test_a_label_of_the_users_is_known_and_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    queue, _ = emt(path)
    computed = queue.label(request(AL, 1))
    assert isinstance(computed, Label)
    wanted = request(AL, 2)
    other, counted = emt(tmp_path / "others.jsonl")
    brought = replace(computed, key=wanted.key, origin=Origin("imported", 0, 0))
    other.validator.store.append(brought)
    assert other.label(wanted) is brought and not counted.pending
    assert not other.validator.given
    assert other.validator.known_labels() == [brought]


def test_no_label_is_computed_twice(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    queue, counted = emt(path)
    first = queue.label(request(AL, 1))
    again = queue.label(request(AL, 1, step=99))
    queue.submit(request(AL, 1))
    (polled,) = queue.poll()
    assert again is first
    assert polled.record is first
    # Another launch finds it on the disk.
    resumed, counted_later = emt(path)
    assert bits(resumed.label(request(AL, 1))) == bits(first)
    assert (len(counted.pending), len(counted_later.pending)) == (1, 0)


def test_outcomes_come_in_the_order_of_the_requests(tmp_path: Path) -> None:
    queue, counted = emt(tmp_path / "labels.jsonl")
    queue.label(request(AL, 3))  # one of them is known already
    requests = [request(AL, seed) for seed in (5, 3, 1, 4)]
    for pending in requests:
        queue.submit(pending)
    outcomes = []
    while queue.has_more:  # so a caller gets all of them, one poll after the other
        outcomes += queue.poll()
    assert [outcome.request for outcome in outcomes] == requests
    assert [outcome.record.key for outcome in outcomes] == [pending.key for pending in requests]
    assert len(counted.pending) == 4
    assert queue.poll() == []


def test_the_label_is_on_the_disk_before_anybody_sees_it(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    queue, _ = emt(path)
    label = queue.label(request(AL, 1))
    (kept,) = LabelStore(path)
    assert bits(kept) == bits(label)


def test_a_failed_scf_is_stored_as_rejected_and_not_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "labels.jsonl"
    queue, counted = xtb(path)
    with caplog.at_level(logging.WARNING, "fhi_al"):
        record = queue.label(stretched(2))
    assert isinstance(record, Rejected)
    assert record.reason.startswith("the SCF did not converge")
    assert len(record.reason) > len("the SCF did not converge ")  # and the engine's own words
    assert "label discarded (trajectory 2, MD step 0): the SCF did not converge" in caplog.text
    assert queue.label(stretched(2)) is record
    resumed, counted_later = xtb(path)
    assert bits(resumed.label(stretched(2))) == bits(record)
    assert (len(counted.pending), len(counted_later.pending)) == (1, 0)
    assert (resumed.validator.store.n_labels, resumed.validator.store.n_rejected) == (0, 1)


def test_an_absurd_force_is_refused(tmp_path: Path) -> None:
    pending = request(AL, 1)
    forces = AseEngine(AseSpec("ase.calculators.emt:EMT", AL)).calculate(pending.positions, AL.cell)
    largest = float(np.linalg.norm(forces.forces, axis=1).max())
    strict, _ = emt(tmp_path / "strict.jsonl", max_force=0.999 * largest)
    record = strict.label(pending)
    assert isinstance(record, Rejected)
    assert f"the largest force is {largest:.1f} eV/A" in record.reason
    lenient, _ = emt(tmp_path / "lenient.jsonl", max_force=1.001 * largest)
    assert isinstance(lenient.label(pending), Label)


def test_an_absurd_energy_is_refused(tmp_path: Path) -> None:
    queue, _ = emt(tmp_path / "mean.jsonl", max_energy_per_atom=1e-6)
    first = queue.label(request(AL, 1))
    assert isinstance(first, Label)  # nothing to compare it with
    record = queue.label(request(AL, 2))
    assert isinstance(record, Rejected)
    assert "eV per atom from the mean of the labels so far" in record.reason
    assert "max_energy_per_atom = 1e-06 eV" in record.reason
    near, _ = emt(tmp_path / "near.jsonl", e0_sum=first.energy + 4 * 49.9)
    assert isinstance(near.label(request(AL, 1)), Label)
    far, _ = emt(tmp_path / "far.jsonl", e0_sum=first.energy - 4 * 50.1)
    record = far.label(request(AL, 1))
    assert isinstance(record, Rejected)
    assert record.reason.startswith("the energy is 50.1 eV per atom from the sum of the E0s")


def test_an_engine_that_dies_on_a_structure_is_not_asked_a_fourth_time(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    for launch in range(3):
        queue, counted = emt(path)
        counted.engine.close()
        with pytest.raises(EngineError, match="closed"):
            queue.label(request(AL, 1))
        assert len(counted.pending) == 1, launch
    queue, counted = emt(path)
    record = queue.label(request(AL, 1))
    assert isinstance(record, Rejected) and record.reason == "the engine died on it 3 times"
    assert counted.pending == []
    # Settled: the next launch is not told of it again.
    assert CallRecord(tmp_path).crashes(record.key) == 0
    assert isinstance(queue.label(request(AL, 2)), Label)


def test_failures_in_a_row_stop_the_run_and_are_all_stored(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    queue, counted = xtb(path)
    assert isinstance(queue.label(stretched(1)), Rejected)
    assert isinstance(queue.label(stretched(2)), Rejected)
    assert isinstance(queue.label(request(ETHANOL, 0)), Label)  # the row is broken
    for seed in (3, 4, 5):
        queue.submit(stretched(seed))
    words = r"(?s)last 3 labels .*max_label_failures = 3.*last lines:\ncall 6 was the last"
    queue.poll()
    queue.poll()
    with pytest.raises(TooManyFailures, match=words):
        queue.poll()
    assert len(counted.pending) == 6
    kept = LabelStore(path)
    assert (kept.n_labels, kept.n_rejected) == (1, 5)
    # A resumed run does not compute them again, and counts them.
    resumed, counted_later = xtb(path, max_failures=2)
    assert isinstance(resumed.label(stretched(3)), Rejected)
    with pytest.raises(TooManyFailures):
        resumed.label(stretched(4))
    assert counted_later.pending == []


def test_the_failure_of_one_request_does_not_lose_the_labels_before_it(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    queue, counted = xtb(path, max_failures=1)
    for pending in (request(ETHANOL, 0), stretched(1), request(ETHANOL, 2)):
        queue.submit(pending)
    queue.poll()
    with pytest.raises(TooManyFailures):
        queue.poll()
    assert request(ETHANOL, 0).key in LabelStore(path)
    assert [outcome.request.origin.trajectory for outcome in queue.poll()] == [2]
    assert len(counted.pending) == 3


def test_a_broken_engine_stores_nothing(tmp_path: Path) -> None:
    queue, counted = emt(tmp_path / "labels.jsonl")
    counted.engine.close()
    with pytest.raises(EngineError, match=r"(?s)closed.*last lines:\ncall 1 was the last"):
        queue.label(request(AL, 1))
    assert len(queue.validator.store) == 0


def test_only_the_engine_is_timed(tmp_path: Path) -> None:
    inside: list[int] = []
    counted = Counted(AseSpec("ase.calculators.emt:EMT", AL))

    @contextmanager
    def timed() -> Iterator[None]:
        inside.append(len(counted.pending))
        yield
        inside.append(len(counted.pending))

    validator = queue_on(counted, AL, tmp_path / "labels.jsonl").validator
    queue = SerialLabelQueue(validator, counted, CallRecord(tmp_path), timed=timed)
    queue.label(request(AL, 1))
    queue.label(request(AL, 1))
    assert inside == [0, 1]


# EMT knows no silicon.
SILICON = structure(bulk("Si").numbers, bulk("Si").positions, np.array(bulk("Si").cell))


@pytest.mark.parametrize("keeps", [False, True])
def test_what_the_engine_cannot_compute_ends_a_run_or_is_kept(tmp_path: Path, keeps: bool) -> None:
    counted = Counted(AseSpec("ase.calculators.emt:EMT", SILICON))
    validator = LabelValidator(
        [SILICON],
        LabelStore(tmp_path / "labels.jsonl"),
        limits=LabelLimits(100.0, 50.0),
        e0_sums=[None],
        max_failures=3,
        keeps_uncomputable=keeps,
    )
    queue = SerialLabelQueue(validator, counted, CallRecord(tmp_path), timed=untimed)
    if keeps:
        found = queue.label(request(SILICON, 1))
        assert isinstance(found, Rejected) and "No EMT-potential for Si" in found.reason
    else:
        with pytest.raises(CannotCompute, match="No EMT-potential for Si"):
            queue.label(request(SILICON, 1))
    assert len(LabelStore(tmp_path / "labels.jsonl")) == int(keeps)


def test_a_molecule_has_no_stress_where_crystals_have_one(tmp_path: Path) -> None:
    counted = Counted(tblite_spec("GFN2-xTB", ETHANOL))
    validator = LabelValidator(
        [ETHANOL],
        LabelStore(tmp_path / "labels.jsonl"),
        limits=LabelLimits(100.0, 50.0),
        e0_sums=[None],
        max_failures=3,
        wants_stress=True,
    )
    queue = SerialLabelQueue(validator, counted, CallRecord(tmp_path), timed=untimed)
    assert isinstance(queue.label(request(ETHANOL, 0)), Label)


def test_an_identity_names_a_geometry_in_place_of_its_system() -> None:
    origin = Origin("file", 0, 3)
    shape = (ETHANOL.positions, ETHANOL.cell, origin)
    keys = {LabelRequest(system, *shape, 77).key for system in (0, 1)}
    assert len(keys) == 1
    assert keys != {LabelRequest(0, *shape, 78).key} and keys != {LabelRequest(0, *shape).key}
