"""CPU time of MD and training, side by side with another checkout of this program.

    python benchmarks/side_by_side.py --before CHECKOUT [--pairs 2] [--repeats 8]

What benchmarks/throughput.py measures, on one rank with one thread, in short turns: five steps of
its eight trajectories, two epochs of a member.  A process of each checkout stands by and the two
take turns within a second, so that what else goes on at the machine meets both; several pairs of
processes, for where a process's memory lies changes times by per cents, too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
N_STEPS, N_EPOCHS = 5, 2
WAYS = {
    "mean": "MD, mean forces",
    "mean32": "MD, mean forces, float32",
    "member": "MD, `member`",
    "member32": "MD, `member`, float32",
    "training": "training",
    "plain_training": "training, `fit_atomic_energies: false`",
}


def serve() -> None:
    """Do what is named on standard input; answer with CPU seconds."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    acts = ways()
    for line in sys.stdin:
        started = time.process_time()
        acts[line.strip()]()
        print(time.process_time() - started, file=answers, flush=True)


def ways() -> dict[str, Callable[[], Any]]:
    """What can be measured, by the code that is imported: this one or an older one."""
    import throughput
    import torch
    from ethanol import N_MEMBERS, ensemble, ethanol_labels

    from fhi_al.models.training import SerialTrainingPool

    throughput.BLOCK = N_STEPS
    torch.set_num_threads(1)
    with suppress(ImportError):  # of code before it
        from fhi_al.models.torch_set_up import torch_set_up

        # For as long as the process lives.
        torch_set_up(1).__enter__()
    members = ensemble(ethanol_labels(throughput.N_TRAINING + throughput.N_VALIDATION))
    pool = SerialTrainingPool(members, 1)
    pool.begin(range(N_MEMBERS), 2).finish()
    single = float32_of(members)

    def md(predictor: Any, member: bool) -> Callable[[], None]:
        return throughput.Trajectories(members, predictor, member=member).advance

    def train() -> None:
        pool.begin([0], N_EPOCHS).finish()

    def train_without_fit() -> None:
        training: Any = getattr(getattr(members, "settings", None), "training", None)
        if not hasattr(training, "fit_atomic_energies"):  # in code before it
            train()
            return
        before = training.fit_atomic_energies
        object.__setattr__(training, "fit_atomic_energies", False)
        train()
        object.__setattr__(training, "fit_atomic_energies", before)

    return {
        "mean": md(members, member=False),
        "mean32": md(single, member=False),
        "member": md(members, member=True),
        "member32": md(single, member=True),
        "training": train,
        "plain_training": train_without_fit,
    }


def float32_of(members: Any) -> Any:
    """The members' predictor in float32."""
    if hasattr(members, "predictor"):
        return members.predictor("float32")
    from fhi_al.models.model_copies import predictor_of

    return predictor_of(members, "float32")


class Checkout:
    """A process of a checkout's code.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        folders = os.pathsep.join([str(path / "src"), str(path / "benchmarks")])
        self._process = subprocess.Popen(
            # -P: the benchmarks of the checkout, not those beside this file.
            [sys.executable, "-P", "-W", "ignore", __file__, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": folders, "OMP_NUM_THREADS": "1"},
        )

    def seconds(self, way: str) -> float:
        """CPU seconds of one turn."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{way}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="another checkout of this program")
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve()
        return
    if given.before is None:
        parser.error("--before CHECKOUT is missing")
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in given.ways}
    for _ in range(given.pairs):
        both = Checkout(given.before), Checkout(ROOT)
        for repeat in range(given.repeats + 1):
            for way in given.ways:
                order = (0, 1) if repeat % 2 else (1, 0)
                turn = {place: both[place].seconds(way) for place in order}
                if repeat:  # the first warms up
                    found[way].append((turn[0], turn[1]))
        for one in both:
            one.close()
    print("| CPU ms of a turn, median (least) | before | now | now / before: median [quartiles] |")
    print("|---|---|---|---|")
    for way, turns in found.items():
        before, now = ([1e3 * turn[place] for turn in turns] for place in (0, 1))
        low, middle, high = statistics.quantiles([b / a for a, b in turns], n=4)
        cells = [f"{statistics.median(one):.0f} ({min(one):.0f})" for one in (before, now)]
        print(f"| {WAYS[way]} | {' | '.join(cells)} | {middle:.3f} [{low:.3f}, {high:.3f}] |")


if __name__ == "__main__":
    main()
