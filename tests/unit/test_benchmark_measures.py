"""What the benchmarks of the ML side make of their readings."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from overhead import Stopwatches  # noqa: E402
from throughput import table  # noqa: E402


class Owner:
    """A function that calls another."""

    def inner(self) -> None:
        """Nothing: the clock says how long it takes."""

    def outer(self) -> None:
        self.inner()


def test_time_inside_another_measured_function_is_counted_once() -> None:
    clock = iter([0.0, 1.0, 4.0, 10.0])
    owner = Owner()
    watches = Stopwatches()
    watches.around(owner, "inner", "inner")
    watches.around(owner, "outer", "outer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "perf_counter", lambda: next(clock))
        owner.outer()
    assert watches.seconds == {"inner": 3.0, "outer": 7.0}
    assert watches.calls == {"inner": 1, "outer": 1}


def test_gains_are_ratios_within_a_turn() -> None:
    seconds = {
        "naive": [8.0, 16.0, 8.0],
        "mean, 1 rank": [4.0, 4.0, 2.0],
        "mace_run_train": [1.0, 2.0, 4.0],
        "training, 2 ranks": [2.0, 2.0, 8.0],
    }
    lines = table(seconds, ["mean, 1 rank"], n_steps=25, n_epochs=2)
    # 8 trajectories x 25 steps in 4, 4 and 2 s; 2, 4 and 4 times the naive way of the same turn.
    assert "| MD, mean, 1 rank | 50.00 [50.00, 100.00] | 4.00 [2.00, 4.00] | 2.7 |" in lines
    # 4 members x 2 epochs in 2, 2 and 8 s against one epoch in 1, 2 and 4 s.
    assert "| training, 2 ranks | 4.00 [1.00, 4.00] | 4.00 [4.00, 8.00] | 1.3 |" in lines
