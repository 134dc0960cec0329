"""Measure what a label, a training round and a sweep cost rank 0 beside MD, training and DFT.

    mpirun -n 4 python benchmarks/message_costs.py [--folder DIR] [--json FILE]

Sizes and times of the messages (real MPI ranks, asleep as in a run), the label store with its
fsync, the judge, the journal, and the bookkeeping of many trajectories.  Rank 0 prints one row per
quantity.  ``--folder`` should be on the file system of real runs: an fsync is what its disk makes
of it.  The figures in docs/explanation/scaling.md are from here.
"""

from __future__ import annotations

import argparse
import io
import json
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from fhi_al.core.label import Label, Origin
from fhi_al.core.plausible import GeometryLimits, LabelLimits, geometry_problem, label_problem
from fhi_al.core.structure import Array, geometry_key
from fhi_al.core.threshold import MovingAverage, observed
from fhi_al.core.trajectory import Limits, Moved, TrajectoryState, after
from fhi_al.engines.engine import ReferenceResult
from fhi_al.labels.store import LabelStore
from fhi_al.md.live_trajectory import LiveTrajectory
from fhi_al.md.point import MDPoint
from fhi_al.parallel import mpi
from fhi_al.report.journal import Journal

N_ATOMS = (10, 100, 1000)
N_TRAJECTORIES = (10, 100, 1000)
# Weights, optimizer and averages of one member: 67 k parameters in float64, and a large model.
STATE_BYTES = (2_000_000, 20_000_000)
REPEATS = 21
# Long enough for a serving rank to have reached its longest sleep.
ASLEEP_S = 0.06
IDLE_S = 3.0


@dataclass(frozen=True)
class Row:
    """One measured quantity: its name, the size it was measured at, value and unit."""

    name: str
    size: str
    value: float
    unit: str


def main() -> None:
    """Measure on rank 0 and print; serve on the others."""
    with mpi.communicator() as comm:
        if comm.rank:
            mpi.serve(comm, lambda name, payload: _act(comm, name, payload))
            return
        arguments = argparse.ArgumentParser(description="What a label costs rank 0.")
        arguments.add_argument(
            "--folder", type=Path, help="on the disk to measure; default: temporary"
        )
        arguments.add_argument("--json", type=Path, help="write the rows to this file, too")
        chosen = arguments.parse_args()
        with tempfile.TemporaryDirectory(dir=chosen.folder) as scratch:
            rows = [*sizes(), *of_messages(comm), *of_a_label(Path(scratch)), *of_trajectories()]
        mpi.call(comm, "stop", 0)
        for row in rows:
            print(f"{row.name:<58} {row.size:>20} {row.value:>12.4g} {row.unit}")
        if chosen.json:
            table = [row.__dict__ for row in rows]
            chosen.json.write_text(json.dumps({"ranks": comm.size, "rows": table}, indent=1) + "\n")


def _act(comm: MPI.Intracomm, name: str, payload: Any) -> None:
    """A serving rank: answer as a group's first rank, take in silently, or tell its CPU time."""
    if name == "label":
        mpi.answer(comm, mpi.LABEL_TAG, (payload[0], result(len(payload[1]))))
    elif name == "state":
        mpi.answer(comm, mpi.TRAINING_TAG, bytes(payload))
    elif name == "cpu":
        mpi.answer(comm, mpi.LABEL_TAG, time.process_time())


def positions_of(n_atoms: int) -> Array:
    """Atoms (A) on a cubic grid of 2.5 A, rattled by 0.05 A, seeded."""
    edge = round(np.ceil(n_atoms ** (1 / 3)))
    grid = 2.5 * np.stack(np.meshgrid(*3 * [np.arange(edge)]), axis=-1).reshape(-1, 3)[:n_atoms]
    return np.asarray(grid + np.random.default_rng(1).normal(0, 0.05, (n_atoms, 3)))


def cell_of(n_atoms: int) -> Array:
    """The cubic cell (A) of that grid."""
    return np.eye(3) * 2.5 * np.ceil(n_atoms ** (1 / 3))


def result(n_atoms: int) -> ReferenceResult:
    """An answer with forces of full precision, as pickle and JSON see them in a run."""
    forces = np.random.default_rng(2).normal(0, 1, (n_atoms, 3))
    return ReferenceResult(-1.5 * n_atoms, forces, None, True)


def sizes() -> list[Row]:
    """Bytes of a command to a group's rank and of its first rank's answer."""
    rows = []
    for n_atoms in N_ATOMS:
        command = ("label", ("0" * 32, positions_of(n_atoms), cell_of(n_atoms)))
        answer = ("0" * 32, result(n_atoms))
        for name, content in (("command, pickled", command), ("answer, pickled", answer)):
            rows.append(Row(name, f"{n_atoms} atoms", len(pickle.dumps(content, -1)), "bytes"))
    return rows


def median_s(act: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median wall time of an act in seconds."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        act()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def of_messages(comm: MPI.Intracomm) -> list[Row]:
    """Fan-out, round trip and collection with ranks that sleep between their looks."""
    if comm.size == 1:
        return []
    rows = []
    for n_atoms in N_ATOMS:
        command = ("label", ("0" * 32, positions_of(n_atoms), cell_of(n_atoms)))
        size = f"{n_atoms} atoms, {comm.size - 1} ranks"
        told_s, trip_s = _told(comm, command, _one_after_the_other)
        rows.append(Row("tell, one rank after the other", size, 1e3 * told_s, "ms"))
        rows.append(Row("tell, and all have answered", size, 1e3 * trip_s, "ms"))
        told_s, _ = _told(comm, command, _at_once)
        rows.append(Row("tell, all sent before waiting", size, 1e3 * told_s, "ms"))
    for n_bytes in STATE_BYTES:

        def state(n_bytes: int = n_bytes) -> object:
            mpi.tell(comm, [1], "state", n_bytes)
            return _await(comm, mpi.TRAINING_TAG, 1)

        size = f"{n_bytes / 1e6:g} MB"
        rows.append(Row("a member's state, asked for and back", size, 1e3 * median_s(state), "ms"))
    poll_s = median_s(lambda: [mpi.answers(comm, mpi.LABEL_TAG) for _ in range(1000)]) / 1000
    rows.append(Row("look for answers, none there", "", 1e6 * poll_s, "us"))
    return [*rows, _idle_cpu(comm)]


def _told(
    comm: MPI.Intracomm, command: mpi.Command, send: Callable[[MPI.Intracomm, mpi.Command], None]
) -> tuple[float, float]:
    """Median seconds until all have been told, and until all have answered."""
    message, answered = [], []
    for _ in range(REPEATS):
        time.sleep(ASLEEP_S)
        started = time.perf_counter()
        send(comm, command)
        message.append(time.perf_counter() - started)
        _await(comm, mpi.LABEL_TAG, comm.size - 1)
        answered.append(time.perf_counter() - started)
    return statistics.median(message), statistics.median(answered)


def _one_after_the_other(comm: MPI.Intracomm, command: mpi.Command) -> None:
    for rank in range(1, comm.size):
        mpi.tell(comm, [rank], *command)


def _at_once(comm: MPI.Intracomm, command: mpi.Command) -> None:
    sends = [comm.isend(command, rank, mpi.COMMAND_TAG) for rank in range(1, comm.size)]
    while sends:
        sends = [send for send in sends if not send.test()[0]]
        time.sleep(mpi.SHORTEST_SLEEP_S)


def _idle_cpu(comm: MPI.Intracomm) -> Row:
    used = []
    for seconds in (0.0, IDLE_S):
        time.sleep(seconds)
        for rank in range(1, comm.size):
            mpi.tell(comm, [rank], "cpu")
        answers = sorted(_await(comm, mpi.LABEL_TAG, comm.size - 1))
        used.append(np.array([cpu_s for _, cpu_s in answers]))
    share = float(max(used[1] - used[0])) / IDLE_S
    return Row("CPU of a rank that waits", f"{IDLE_S:g} s", 100 * share, "% of a core")


def _await(comm: MPI.Intracomm, tag: int, n_answers: int) -> list[tuple[int, Any]]:
    arrived: list[tuple[int, Any]] = []
    nap = mpi.Nap()
    while len(arrived) < n_answers:
        found = mpi.answers(comm, tag)
        arrived += found
        if not found:
            nap.take()
    return arrived


def of_a_label(folder: Path) -> list[Row]:
    """What rank 0 does with one label: name, judge, store, journal; and with each MD step."""
    rows = []
    limits = LabelLimits(100.0, 50.0)
    for n_atoms in N_ATOMS:
        size = f"{n_atoms} atoms"
        positions, cell, found = positions_of(n_atoms), cell_of(n_atoms), result(n_atoms)
        path = folder / f"{n_atoms}.jsonl"
        store = LabelStore(path, "engine", "limits")
        labels = [_label(positions + 1e-9 * i, cell, found) for i in range(REPEATS)]
        pending = iter(labels)
        append_s = median_s(partial(_append_next, store, pending))
        store.close()

        def judge(x: Array = positions, c: Array = cell, r: ReferenceResult = found) -> object:
            geometry_key(0, x, c)
            return label_problem(r.energy, r.forces, True, len(x), limits)

        radii = np.full(n_atoms, 0.7)
        overlap = partial(geometry_problem, positions, cell, True, radii, GeometryLimits())
        line_bytes = path.stat().st_size / REPEATS
        rows += [
            Row("label store: line", size, line_bytes, "bytes"),
            Row("label store: append with fsync", size, 1e3 * append_s, "ms"),
            Row("name and judge", size, 1e6 * median_s(judge), "us"),
            Row("overlap check of a crystal, at each MD step", size, 1e3 * median_s(overlap), "ms"),
        ]
    journal = Journal(folder / "journal.jsonl")

    def line() -> None:
        journal.add("arrived", sweep=7, trajectory=11, key="0" * 32, order=1234)

    def line_on_disk() -> None:
        line()
        journal.length()

    rows.append(Row("journal: one line", "", 1e6 * median_s(line), "us"))
    rows.append(Row("journal: one line, fsynced", "", 1e3 * median_s(line_on_disk), "ms"))
    journal.close()
    return rows


def _append_next(store: LabelStore, pending: Iterator[Label]) -> None:
    store.append(next(pending))


def _label(positions: Array, cell: Array, found: ReferenceResult) -> Label:
    numbers = np.full(len(positions), 6)
    origin = Origin("active_learning", 0, 0)
    key = geometry_key(0, positions, cell)
    return Label(key, 0, numbers, positions, cell, True, found.energy, found.forces, None, origin)


def of_trajectories() -> list[Row]:
    """Bookkeeping that grows with the number of trajectories."""
    rows = []
    history = MovingAverage()
    for _ in range(400):
        history = observed(history, 0.1, 400)
    estimate_s = median_s(partial(observed, history, 0.1, 400))
    rows.append(Row("threshold: one estimate", "", 1e6 * estimate_s, "us"))
    point = MDPoint(positions_of(100), positions_of(100), cell_of(100))
    for n in N_TRAJECTORIES:
        size = f"{n} trajectories"
        live = [LiveTrajectory(point, point, np.random.default_rng(k)) for k in range(n)]
        states = tuple(TrajectoryState(k) for k in range(n))

        def tell(states: tuple[TrajectoryState, ...] = states) -> object:
            everyone = list(states)
            everyone[0], _ = after(everyone[0], Moved(20), Limits(1e6, 5, 20))
            return tuple(everyone)

        def copies(live: list[LiveTrajectory] = live) -> object:
            return [trajectory.kept() for trajectory in live]

        def phase_space(live: list[LiveTrajectory] = live) -> bytes:
            arrays: dict[str, Array] = {}
            for index, trajectory in enumerate(live):
                arrays |= trajectory.arrays(str(index))
            stream = io.BytesIO()
            np.savez(stream, **arrays)  # type: ignore[arg-type]
            return stream.getvalue()

        rows += [
            Row("feed one event to a trajectory", size, 1e6 * median_s(tell), "us"),
            Row(
                "copy trajectories, at each step of the loop",
                size,
                1e3 * median_s(copies),
                "ms",
            ),
            Row("snapshot: phase space (100 atoms)", size, len(phase_space()) / 1e6, "MB"),
            Row("snapshot: pack phase space", size, 1e3 * median_s(phase_space, 3), "ms"),
        ]
    return rows


if __name__ == "__main__":
    main()
