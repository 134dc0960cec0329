"""Draw what the simulation of the loop gives.  The only module that needs matplotlib."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from loop_inputs import Durations, Layout, Workload
from loop_scans import TRAJECTORIES, overlap, scan, steady
from matplotlib.figure import Figure

GROUPS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
RATIOS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
# What-ifs, (name, factor on training, factor on MD and checks, training ranks).
REMEDIES = (
    ("as measured, 1 training rank", 1.0, 1.0, 1),
    ("3 training ranks", 1.0, 1.0, 3),
    ("training 20 x faster", 1 / 20, 1.0, 1),
    ("training and MD 20 x faster", 1 / 20, 1 / 20, 1),
    ("training and MD 200 x faster", 1 / 200, 1 / 200, 1),
)


def draw(folder: Path, durations: Durations, workload: Workload, layout: Layout) -> None:
    """Write the three figures of docs/explanation/scaling.md as png files."""
    folder.mkdir(parents=True, exist_ok=True)
    _groups(folder / "scaling_groups.png", durations, workload, layout)
    _remedies(folder / "scaling_remedies.png", durations, workload, layout)
    _overlap(folder / "scaling_overlap.png", durations, workload)


def _groups(path: Path, durations: Durations, workload: Workload, layout: Layout) -> None:
    outcomes = scan(durations, workload, layout, TRAJECTORIES, GROUPS)
    figure, (rate, busy) = plt.subplots(1, 2, figsize=(10, 4))
    for n in TRAJECTORIES:
        found = [outcomes[n, groups] for groups in GROUPS]
        (line,) = rate.plot(
            GROUPS, [out.labels_per_hour for out in found], "o-", ms=3, label=f"{n} trajectories"
        )
        colour = line.get_color()
        busy.plot(GROUPS, [100 * out.rank0_busy for out in found], "o-", ms=3, color=colour)
        busy.plot(GROUPS, [100 * out.groups_busy for out in found], "s--", ms=3, color=colour)
    ideal = [
        3600 * groups / (out.dft_s / out.n_labels)
        for groups, out in zip(GROUPS, found, strict=True)
    ]
    rate.plot(GROUPS, ideal, "k:", label="groups / DFT time")
    rate.set(
        xscale="log",
        yscale="log",
        ylabel="labels per hour",
        ylim=(5, 2 * max(o.labels_per_hour for o in found)),
    )
    busy.set(xscale="log", ylabel="busy (%): rank 0 solid, groups dashed")
    rate.legend(frameon=False)
    for axes in (rate, busy):
        axes.set_xlabel(f"reference groups of {layout.ranks_per_group} ranks")
    figure.suptitle(f"DFT {durations.dft_s:g} s per label; rank 0 runs MD and all training")
    _save(figure, path)


def _remedies(path: Path, durations: Durations, workload: Workload, layout: Layout) -> None:
    figure, axes = plt.subplots(figsize=(6.5, 4.3))
    for name, training, md, ranks in REMEDIES:
        times = replace(
            durations,
            epoch_point_s=training * durations.epoch_point_s,
            md_step_s=md * durations.md_step_s,
            check_s=md * durations.check_s,
        )
        outcomes = scan(times, workload, replace(layout, training_ranks=ranks), (1000,), GROUPS)
        rates = [outcomes[1000, groups].labels_per_hour for groups in GROUPS]
        axes.plot(GROUPS, rates, "o-", ms=3, label=name)
    axes.plot(
        GROUPS,
        [3600 * groups / durations.dft_s for groups in GROUPS],
        "k:",
        label="groups / DFT time",
    )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel=f"reference groups of {layout.ranks_per_group} ranks",
        ylabel="labels per hour",
        title=f"1000 trajectories, DFT {durations.dft_s:g} s per label",
    )
    axes.legend(frameon=False, fontsize=8)
    _save(figure, path)


def _overlap(path: Path, durations: Durations, workload: Workload) -> None:
    figure, axes = plt.subplots(figsize=(6.5, 4.3))
    for n in (1, 2, 4, 16):
        pairs = overlap(replace(durations, dft_log_sd=0.3), steady(workload, n), RATIOS)
        ratio = [parallel.wall_s / serial.wall_s for serial, parallel in pairs.values()]
        axes.plot(RATIOS, ratio, "o-", ms=3, label=f"{n} trajectories")
    ideal = [max(ratio, 1.0) / (1.0 + ratio) for ratio in RATIOS]
    axes.plot(RATIOS, ideal, "k:", label="max(DFT, ML) / (DFT + ML)")
    axes.axhline(0.65, color="grey", lw=0.8)
    axes.set(
        xscale="log",
        xlabel="DFT time / ML time in serial mode",
        ylabel="wall time, parallel / serial",
        title="One group; both modes compute the same number of labels",
    )
    axes.legend(frameon=False, fontsize=8)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
