"""Epochs per second of four members on one rank, on one rank with two threads, and on two ranks.

    mpirun -n 2 python benchmarks/training_ranks.py [--repeats 5] [--structures 20] [--epochs 5]

Ethanol labelled by GFN2-xTB (seeded), MACE with 32 channels, L = 0, float64, batches of 5, rounds
of 5 epochs as `intermediate_epochs` makes them unless told otherwise.  The three ways take turns,
so that a change of the machine's load meets all of them; the ratios are medians over the turns.
Ends with code 1 if the weights of one rank and two ranks differ.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from contextlib import ExitStack
from typing import Any

from ethanol import N_MEMBERS, ensemble, ethanol_labels

from fhi_al.models.remote.worker import TrainingRank
from fhi_al.models.torch_set_up import torch_set_up
from fhi_al.parallel import mpi

WAYS = ("1 rank, 1 thread", "1 rank, 2 threads", "2 ranks, 1 thread each")
TARGET = 1.7


def identical(one: Any, other: Any) -> bool:
    """Whether two nested states are the same, bit by bit."""
    if hasattr(one, "cpu"):
        return bool(one.cpu().numpy().tobytes() == other.cpu().numpy().tobytes())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(identical(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(identical, one, other))
    return bool(one == other)


def measure(comm: Any, repeats: int, n_structures: int, n_epochs: int) -> int:
    """Let the three ways take turns and print what came out; the exit code."""
    import torch

    from fhi_al.models.remote.client import RemoteTrainingPool
    from fhi_al.models.training import SerialTrainingPool

    labels = ethanol_labels(n_structures + 4)
    ensembles = [ensemble(labels) for _ in WAYS]
    pools: list[Any] = [SerialTrainingPool(ensembles[0], n_epochs)]
    pools.append(SerialTrainingPool(ensembles[1], n_epochs))
    pools.append(RemoteTrainingPool(ensembles[2], n_epochs, comm, (0, 1)))

    def turn(way: int) -> float:
        torch.set_num_threads(2 if way == 1 else 1)
        started = time.monotonic()
        pools[way].begin(range(N_MEMBERS), n_epochs).finish()
        return time.monotonic() - started

    for way in range(len(WAYS)):  # builds the members of rank 1, compiles everywhere
        turn(way)
    seconds: list[list[float]] = [[] for _ in WAYS]
    for repeat in range(repeats):
        order = range(len(WAYS)) if repeat % 2 == 0 else reversed(range(len(WAYS)))
        for way in order:
            seconds[way].append(turn(way))

    n_trained = N_MEMBERS * n_epochs
    print(f"{N_MEMBERS} members, {n_structures} ethanol structures each, {repeats} turns")
    print(f"{'':24}{'epochs/s of a member':>34}{'':4}{'over 1 rank, 1 thread':>24}")
    print(f"{'':24}{'median':>14}{'slowest':>10}{'fastest':>10}{'':4}{'median':>10}{'range':>16}")
    for way, name in enumerate(WAYS):
        rates = [n_trained / s for s in seconds[way]]
        gains = [a / b for a, b in zip(seconds[0], seconds[way], strict=True)]
        print(
            f"{name:24}{statistics.median(rates):14.2f}{min(rates):10.2f}{max(rates):10.2f}{'':4}"
            f"{statistics.median(gains):10.2f}{f'{min(gains):.2f} to {max(gains):.2f}':>16}"
        )
    gain = statistics.median([a / b for a, b in zip(seconds[0], seconds[2], strict=True)])
    over_threads = statistics.median([a / b for a, b in zip(seconds[1], seconds[2], strict=True)])
    busy = ", ".join(f"rank {rank} {s:.1f} s" for rank, s in pools[2].busy_seconds().items())
    print(f"2 ranks over 1 rank: {gain:.2f} (target {TARGET}); over 2 threads: {over_threads:.2f}")
    print(f"busy with training, 2 ranks: {busy} of {sum(seconds[2]):.1f} s and the first turn")
    same = [
        identical(one.state(), other.state())
        for one, other in zip(ensembles[0].members, ensembles[2].members, strict=True)
    ]
    print(f"states of 1 rank and 2 ranks: {'identical' if all(same) else f'DIFFERENT {same}'}")
    return 0 if all(same) else 1


def main() -> int:
    """Rank 0 measures, the other one serves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--structures", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=5)
    given = parser.parse_args()
    with mpi.communicator() as comm, ExitStack() as changes:
        if comm.size != 2:
            sys.exit("run it on two ranks: mpirun -n 2 python benchmarks/training_ranks.py")
        if comm.rank != 0:
            return mpi.serve(comm, TrainingRank(comm, changes).act)
        changes.enter_context(torch_set_up(1))
        code = measure(comm, given.repeats, given.structures, given.epochs)
        mpi.call(comm, "stop", code)
        return code


if __name__ == "__main__":
    sys.exit(main())
