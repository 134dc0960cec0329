"""Labels per second of one and of two reference groups, side by side.

    mpirun -n 3 python benchmarks/reference_groups.py [--labels 60] [--repeats 3]

Rattled diamond (8 atoms, GFN1-xTB by tblite, some 0.1 s each).  Rank 0 hands the structures out and
sleeps, as in parallel mode; ranks 1 and 2 compute.  Every result is validated and goes into a label
store on the disk.  Labels of both are compared: they must be equal bit by bit.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from ase.build import bulk
from mpi4py import MPI

from fhi_al.app.serving import Server
from fhi_al.core.label import Label, Origin
from fhi_al.core.plausible import LabelLimits
from fhi_al.core.structure import structure
from fhi_al.engines.tblite import tblite_spec
from fhi_al.labels.background_queue import BackgroundLabelQueue
from fhi_al.labels.completion_log import CompletionLog
from fhi_al.labels.crash_trace import CallRecord
from fhi_al.labels.mpi_workers import EngineGroups
from fhi_al.labels.store import LabelStore
from fhi_al.labels.validation import LabelRequest, LabelValidator
from fhi_al.parallel import mpi

RATTLE_A = 0.05


def compute(
    comm: MPI.Intracomm, groups: Sequence[tuple[int, ...]], n_labels: int, folder: Path
) -> tuple[float, list[Label]]:
    """Seconds for the labels, the start of the engines apart, and the labels."""
    diamond = bulk("C", "diamond", a=3.567, cubic=True)
    system = structure(diamond.numbers, diamond.positions, np.array(diamond.cell))
    store = LabelStore(folder / "labels.jsonl")
    validator = LabelValidator(
        [system],
        store,
        limits=LabelLimits(300.0, 50.0),
        e0_sums=[None],
        max_failures=1,
    )
    specs = [tblite_spec("GFN1-xTB", system)]
    workers = EngineGroups(comm, specs, groups, CallRecord(folder))
    queue = BackgroundLabelQueue(
        validator, workers, CompletionLog(folder / "order.jsonl"), waiting=nullcontext
    )
    generator = np.random.default_rng(1)

    def label(seeds: range) -> None:
        for seed in seeds:
            shift = RATTLE_A * generator.standard_normal(system.positions.shape)
            origin = Origin("active_learning", seed, 0)
            queue.submit(LabelRequest(0, system.positions + shift, system.cell, origin))
        n_seen = 0
        while n_seen < len(seeds):
            n_seen += len(queue.poll(wait=True))

    label(range(2))
    started = time.perf_counter()
    label(range(2, 2 + n_labels))
    wall_s = time.perf_counter() - started
    queue.close()
    found = sorted((record for record in store if isinstance(record, Label)), key=lambda r: r.key)
    return wall_s, found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--labels", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with mpi.communicator() as comm, ExitStack() as changes:
        if comm.rank != 0:
            sys.exit(mpi.serve(comm, Server(comm, changes).act))
        if comm.size != 3:
            mpi.call(comm, "stop", 2)
            sys.exit("expected 3 ranks: mpirun -n 3 python benchmarks/reference_groups.py")
        one, two, quotients = [], [], []
        for _ in range(options.repeats):
            pair = []
            for groups in ([(1,)], [(1,), (2,)]):
                with tempfile.TemporaryDirectory() as folder:
                    pair.append(compute(comm, groups, options.labels, Path(folder)))
            for mine, theirs in zip(pair[0][1], pair[1][1], strict=True):
                assert mine.key == theirs.key and mine.energy == theirs.energy
                assert np.array_equal(mine.forces, theirs.forces)
            one.append(pair[0][0])
            two.append(pair[1][0])
            quotients.append(pair[0][0] / pair[1][0])
        mpi.call(comm, "stop", 0)
    print(f"{options.labels} labels, {options.repeats} repeats, medians [min, max]")
    for name, times in (("one group", one), ("two groups", two)):
        print(f"{name}: {statistics.median(times):.2f} s [{min(times):.2f}, {max(times):.2f}]")
    print(
        f"one / two: {statistics.median(quotients):.2f} "
        f"[{min(quotients):.2f}, {max(quotients):.2f}]"
    )


if __name__ == "__main__":
    main()
