"""Simulate the active-learning loop with recorded durations: who is busy, and what limits it.

    python benchmarks/simulate_loop.py --dft 300                 # tables
    python benchmarks/simulate_loop.py --dft 300 --figures docs/figures
    python benchmarks/simulate_loop.py --record RUN/restart --before COPY --about "..." --json FILE

No MPI and no physics: see ``loop_model`` for what is simulated and ``loop_inputs`` for what goes
in.  Figures need matplotlib, which FHI_AL itself does not.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from loop_inputs import (
    Layout,
    read_recorded,
    recorded,
    with_message_costs,
    write_recorded,
)
from loop_model import ACTIVITIES, Outcome
from loop_scans import GROUPS, TRAJECTORIES, overlap, scan, steady

HERE = Path(__file__).parent
RECORDED = HERE / "durations_ethanol.json"


def scan_table(outcomes: dict[tuple[int, int], Outcome]) -> list[str]:
    """Lines of a table, one row per number of trajectories and groups."""
    lines = [
        "| trajectories | groups | ranks | labels/hour | groups busy | rank 0 busy | ideal/wall "
        "| turnaround (s) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (n, groups), out in outcomes.items():
        lines.append(
            f"| {n} | {groups} | {out.layout.ranks} | {out.labels_per_hour:.0f} "
            f"| {100 * out.groups_busy:.0f} % | {100 * out.rank0_busy:.0f} % "
            f"| {out.ideal_s / out.wall_s:.2f} | {out.turnaround_s:.0f} |"
        )
    return lines


def where_table(outcomes: dict[tuple[int, int], Outcome], groups: int) -> list[str]:
    """Lines of a table: rank 0's seconds per label by activity, at so many groups."""
    lines = ["| trajectories | " + " | ".join(ACTIVITIES) + " |", "|---" * 8 + "|"]
    for (n, g), out in outcomes.items():
        if g == groups:
            shares = (f"{out.busy[name] / out.n_labels:.3g}" for name in ACTIVITIES)
            lines.append(f"| {n} | " + " | ".join(shares) + " |")
    return lines


def overlap_table(pairs: dict[float, tuple[Outcome, Outcome]]) -> list[str]:
    """Lines of a table: wall times of both modes and the ideal, by ratio of DFT to ML time."""
    lines = [
        "| DFT/ML | serial (s) | parallel (s) | parallel/serial | ideal max(DFT, ML) (s) |",
        "|---|---|---|---|---|",
    ]
    for ratio, (serial, parallel) in pairs.items():
        lines.append(
            f"| {ratio:g} | {serial.wall_s:.0f} | {parallel.wall_s:.0f} "
            f"| {parallel.wall_s / serial.wall_s:.2f} | {serial.ideal_s:.0f} |"
        )
    return lines


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Simulate the active-learning loop in time.")
    parser.add_argument("--durations", type=Path, default=RECORDED, help="JSON file")
    parser.add_argument("--dft", type=float, help="seconds of a label in a group: the median")
    parser.add_argument("--dft-log-sd", type=float, default=0.3, help="spread of its logarithm")
    parser.add_argument("--trajectories", type=int, nargs="+", default=TRAJECTORIES)
    parser.add_argument("--groups", type=int, nargs="+", default=GROUPS)
    parser.add_argument("--ranks-per-group", type=int, default=10)
    parser.add_argument("--training-ranks", type=int, default=1)
    parser.add_argument("--figures", type=Path, help="draw the figures into this folder")
    parser.add_argument("--record", type=Path, help="restart/ of a finished run, to --json")
    parser.add_argument("--before", type=Path, help="copy of its restart/ before active learning")
    parser.add_argument("--messages", type=Path, help="message_costs.py --json, for --record")
    parser.add_argument("--atoms", type=int, default=10, help="a size that was measured there")
    parser.add_argument("--about", default="", help="where and how --record was measured")
    parser.add_argument("--json", type=Path, default=RECORDED, help="what --record writes")
    chosen = parser.parse_args(words)
    if chosen.record:
        durations, workload = recorded(chosen.record, chosen.before)
        if chosen.messages:
            durations = with_message_costs(durations, chosen.messages, chosen.atoms)
        write_recorded(chosen.json, chosen.about, durations, workload)
        return
    durations, workload = read_recorded(chosen.durations)
    if chosen.dft is not None:
        durations = replace(durations, dft_s=chosen.dft, dft_log_sd=chosen.dft_log_sd)
    layout = Layout(ranks_per_group=chosen.ranks_per_group, training_ranks=chosen.training_ranks)
    outcomes = scan(durations, workload, layout, chosen.trajectories, chosen.groups)
    print(*scan_table(outcomes), sep="\n", end="\n\n")
    print(*where_table(outcomes, max(chosen.groups)), sep="\n", end="\n\n")
    few = steady(workload, workload.num_trajectories)
    print(*overlap_table(overlap(durations, few, (0.1, 0.3, 1, 3, 10))), sep="\n")
    if chosen.figures:
        # Late: the tables do without matplotlib.
        from loop_figures import draw

        draw(chosen.figures, durations, workload, layout)


if __name__ == "__main__":
    main()
