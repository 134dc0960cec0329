"""Many simulated loops: over trajectories and groups, and over the ratio of DFT to ML time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from loop_inputs import Durations, Layout, Workload
from loop_model import Outcome, simulate

TRAJECTORIES = (10, 100, 1000)
GROUPS = (1, 3, 10, 30, 100, 300, 1000)
# Labels per trajectory, and at least: long enough that the start and the end do not count.
LABELS_EACH, LEAST_LABELS = 3, 300
STEADY_SET = 200


def steady(workload: Workload, num_trajectories: int) -> Workload:
    """The same work with so many trajectories, on a training set that keeps its size."""
    return replace(
        workload,
        num_trajectories=num_trajectories,
        n_labels=max(LEAST_LABELS, LABELS_EACH * num_trajectories),
        n_training=STEADY_SET,
        grows=False,
        asks_on=True,
    )


def scan(
    durations: Durations,
    workload: Workload,
    layout: Layout,
    trajectories: Sequence[int] = TRAJECTORIES,
    groups: Sequence[int] = GROUPS,
) -> dict[tuple[int, int], Outcome]:
    """Outcomes by (trajectories, groups); ranks per group and training ranks as in `layout`."""
    return {
        (n, g): simulate(durations, steady(workload, n), replace(layout, groups=g))
        for n in trajectories
        for g in groups
    }


def overlap(
    durations: Durations, workload: Workload, ratios: Sequence[float]
) -> dict[float, tuple[Outcome, Outcome]]:
    """For each ratio of DFT to ML time: the run in serial mode, and overlapped with one group.

    Both compute the same number of labels.
    """
    workload = replace(workload, asks_on=False, grows=False)
    serial, parallel = Layout(parallel=False), Layout(parallel=True)
    without_dft = simulate(replace(durations, dft_s=0.0), workload, serial)
    ml_s = without_dft.rank0_s / without_dft.n_labels
    found = {}
    for ratio in ratios:
        times = replace(durations, dft_s=ratio * ml_s)
        found[ratio] = (simulate(times, workload, serial), simulate(times, workload, parallel))
    return found
