"""Draw the two flow charts of the README.  Deterministic: the same code gives the same pictures.

Usage: python readme_figs/draw_flowcharts.py [FOLDER]   (default: the folder of this script)
"""

from __future__ import annotations

import argparse
import hashlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle

INK, GREY, PAPER = "#22303c", "#7b8794", "#ffffff"
BLUE, ORANGE, GREEN, PURPLE, PALE = "#d6e6f5", "#fbe3cc", "#d8efd9", "#e7def3", "#f4f6f8"
DPI = 150
Point = tuple[float, float]


def canvas(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    """An empty picture whose coordinates are tenths of an inch."""
    figure = plt.figure(figsize=(width, height), facecolor=PAPER)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, 10 * width)
    axes.set_ylim(0, 10 * height)
    axes.axis("off")
    axes.text(2, 10 * height - 3.4, title, fontsize=15, weight="bold", color=INK, va="center")
    return figure, axes


def words(axes: Axes, at: Point, text: str, size: float = 9, **style: Any) -> None:
    """Text centred on a point."""
    given: dict[str, Any] = {
        "ha": "center",
        "va": "center",
        "color": INK,
        "fontsize": size,
        "linespacing": 1.25,
    }
    axes.text(*at, text, **(given | style))


def box(
    axes: Axes, corner: Point, size: Point, text: str, colour: str = BLUE, font: float = 9
) -> None:
    """A rounded box with text in its middle; ``corner`` is the lower left one."""
    axes.add_patch(
        FancyBboxPatch(
            corner,
            *size,
            boxstyle="round,pad=0,rounding_size=1.0",
            facecolor=colour,
            edgecolor=INK,
            linewidth=1.1,
        )
    )
    words(axes, (corner[0] + size[0] / 2, corner[1] + size[1] / 2), text, font)


def panel(axes: Axes, corner: Point, size: Point, title: str) -> None:
    """A pale area with a heading, behind boxes that belong together."""
    axes.add_patch(
        FancyBboxPatch(
            corner,
            *size,
            boxstyle="round,pad=0,rounding_size=1.6",
            facecolor=PALE,
            edgecolor="#c8d0d8",
            linewidth=1.0,
            zorder=0,
        )
    )
    heading = (corner[0] + 1.8, corner[1] + size[1] - 2.6)
    words(axes, heading, title, 11, weight="bold", ha="left")


def question(axes: Axes, middle: Point, size: Point, text: str) -> None:
    """A decision: a diamond with text in its middle."""
    (x, y), (w, h) = middle, (size[0] / 2, size[1] / 2)
    corners = [(x - w, y), (x, y + h), (x + w, y), (x, y - h)]
    axes.add_patch(Polygon(corners, facecolor="#fff6cf", edgecolor=INK, linewidth=1.1))
    words(axes, middle, text, 8.5)


def arrow(axes: Axes, *points: Point, bend: float = 0.0, colour: str = INK) -> None:
    """An arrow along straight pieces; with two points it may be bent."""
    for start, end in pairwise(points[:-1]):
        axes.plot(*zip(start, end, strict=True), color=colour, linewidth=1.3, zorder=1)
    axes.add_patch(
        FancyArrowPatch(
            points[-2],
            points[-1],
            arrowstyle="-|>",
            mutation_scale=12,
            shrinkA=0,
            shrinkB=0,
            linewidth=1.3,
            color=colour,
            connectionstyle=f"arc3,rad={bend}",
            zorder=1,
        )
    )


def initial_dataset(axes: Axes) -> None:
    """Left panel: sample, label, share out, train, until good enough."""
    panel(axes, (2, 3), (36, 75), "1  Initial dataset")
    left, wide = 6, 25
    middle = left + wide / 2
    steps = [
        (66, "control.in, geometry.in\nand two settings files", PALE),
        (
            56.5,
            "sample n_samples points for each\nmember: MD on a foundation model\n"
            "or ab initio, displaced atoms",
            BLUE,
        ),
        (47, "label them with the\nreference engine", ORANGE),
        (
            37.5,
            "every member trains on all of\nthem but a fold of its own, on\nwhich it validates",
            PURPLE,
        ),
        (28, "train all members, again and\nagain while it helps", GREEN),
    ]
    for y, text, colour in steps:
        box(axes, (left, y), (wide, 6.8), text, colour)
    for (upper, *_), (lower, *_) in pairwise(steps):
        arrow(axes, (middle, upper), (middle, lower + 6.8))
    question(
        axes,
        (middle, 19),
        (30, 12),
        "validation force MAE\n≤ lambda × desired_acc, or\nmax_initial_epochs?",
    )
    arrow(axes, (middle, 28), (middle, 25))
    arrow(axes, (middle + 15, 19), (35.5, 19), (35.5, 59.9), (left + wide, 59.9))
    words(axes, (34.4, 20.6), "no", 9, style="italic")
    box(axes, (left, 5), (wide, 5), "converge, if converge_initial", GREEN)
    arrow(axes, (middle, 13), (middle, 10))
    words(axes, (middle + 2.2, 11.6), "yes", 9, style="italic")


def sweep(axes: Axes) -> None:
    """Upper right panel: the three stages of a sweep."""
    panel(
        axes,
        (42, 53),
        (74.5, 25),
        "2  Active learning, in sweeps over num_trajectories trajectories",
    )
    stages = [
        (
            44.5,
            "move",
            "every running trajectory\nadvances skip_step_mlff\nMD steps on the ensemble",
            BLUE,
        ),
        (
            64.5,
            "label",
            "over the threshold?\nask the reference engine,\ntake its labels in",
            ORANGE,
        ),
        (
            84.5,
            "train",
            "for every trajectory\nin training: all members,\nintermediate_epochs",
            GREEN,
        ),
    ]
    for x, name, text, colour in stages:
        box(axes, (x, 59), (17.5, 13), "", colour)
        words(axes, (x + 8.75, 69.6), name, 11, weight="bold")
        words(axes, (x + 8.75, 63.8), text, 8.5)
    arrow(axes, (62, 65.5), (64.5, 65.5))
    arrow(axes, (82, 65.5), (84.5, 65.5))
    question(axes, (109.5, 65.5), (10, 10), "stop?")
    arrow(axes, (102, 65.5), (104.5, 65.5))
    arrow(axes, (109.5, 60.5), (109.5, 55.8), (53.25, 55.8), (53.25, 59))
    words(axes, (107.6, 57.4), "no", 9, style="italic")
    rules = "stop: force MAE < desired_acc, label_budget, max_set_size, or all trajectories done"
    words(axes, (81.4, 54.4), rules, 8)


def life(axes: Axes) -> None:
    """Middle right panel: the four states of a trajectory."""
    panel(axes, (42, 18.5), (74.5, 32), "The life of one trajectory")
    state: dict[str, Any] = {"size": (16, 6), "font": 10.5}
    box(axes, (45, 33), text="running", colour=BLUE, **state)
    box(axes, (81, 38), text="waiting", colour=ORANGE, **state)
    box(axes, (81, 22), text="training", colour=GREEN, **state)
    box(axes, (45, 20.5), text="done", colour=PURPLE, **state)
    arrow(axes, (57, 39), (81, 42.5), bend=-0.16)
    words(axes, (63.8, 44.6), "uncertainty over the threshold", 8.5)
    arrow(axes, (81, 39.6), (61, 37))
    words(axes, (72, 35.3), "label joins validation,\nor was discarded *", 8.5)
    arrow(axes, (89, 38), (89, 28))
    words(axes, (90, 33), "label joins\ntraining", 8.5, ha="left")
    arrow(axes, (81, 25), (61, 34.2), bend=-0.12)
    words(axes, (71, 22.6), "after max_epochs_worker\nepochs", 8.5)
    arrow(axes, (53, 33), (53, 26.5))
    words(axes, (54, 29.8), "max_MD_steps", 8.5, ha="left")
    note = (
        "threshold =\nmoving average of\nthe uncertainties\n× (1 − c_x), capped\n"
        "by max_threshold\n\n"
        "* as after an MD block\nthat exploded: back to\nthe last good point,\nnew velocities"
    )
    words(axes, (107.8, 34.5), note, 8.5)


def algorithm() -> Figure:
    """The algorithm from the first sample to the final models."""
    figure, axes = canvas(12, 8.5, "FHI_AL: from a geometry to a MACE force field")
    initial_dataset(axes)
    sweep(axes)
    life(axes)
    panel(axes, (42, 3), (74.5, 13), "3  Convergence")
    kept = "train on without new points; keep the\nbest weights (all members, or the best)"
    box(axes, (44.5, 4.6), (33, 6.4), kept, GREEN)
    end = (
        "model/, data/final/, report/; then\nthe true error in the models' own\n"
        "MD, by a few more labels"
    )
    box(axes, (84, 4.6), (30, 6.4), end, PALE)
    arrow(axes, (77.5, 7.8), (84, 7.8))
    arrow(axes, (31, 7.5), (40, 7.5), (40, 68.5), (44.5, 68.5))
    arrow(axes, (114.5, 65.5), (118.3, 65.5), (118.3, 13.4), (68, 13.4), (68, 11))
    words(axes, (115, 67.2), "yes", 9, style="italic", ha="left")
    return figure


def lane(axes: Axes, y: float, name: str) -> None:
    """The time line of a rank."""
    words(axes, (2.5, y + 2.5), name, 10.5, weight="bold", ha="left")
    axes.add_patch(Rectangle((12, y), 106, 5, facecolor="#eef1f4", edgecolor="none", zorder=0))


def parallel() -> Figure:
    """Which rank does what over time in both modes, and the way of a label."""
    figure, axes = canvas(12, 12.3, "Rank 0 drives, the others serve")
    serial_lanes(axes, 42)
    parallel_lanes(axes)
    label_path(axes)
    return figure


def serial_lanes(axes: Axes, up: float) -> None:
    """Serial mode: everything waits for the reference calculation, all ranks take part in it."""
    words(axes, (2.5, up + 72.3), "Serial mode", 11, ha="left", weight="bold")
    lanes = {"rank 0": up + 65.5, "rank 1": up + 58.0, "rank 2": up + 50.5, "…": up + 43.0}
    for name, y in lanes.items():
        lane(axes, y, name)
    training = (72, 18, "training of\nits member", GREEN)
    rows: list[tuple[float, list[tuple[float, float, str, str]]]] = [
        (
            65.5,
            [
                (12, 10, "read and\ncheck inputs", PALE),
                (23, 12, "MD of all\ntrajectories", BLUE),
                (36, 12, "uncertainty\nchecks", BLUE),
                training,
                (91, 12, "MD, checks", BLUE),
            ],
        ),
        *(
            (y, [(23, 25, "forces of its member", BLUE), training, (91, 12, "forces", BLUE)])
            for y in (58.0, 50.5)
        ),
    ]
    for y, row in rows:
        for x, width, text, colour in row:
            box(axes, (x, up + y), (width, 5), text, colour, 8.5)
    together = "one\nreference\ncalculation\non all ranks\n(FHI-aims)"
    for x in (49.0, 60.5, 104.0):
        box(axes, (x, up + 43), (10.5, 27.5), together, ORANGE, 8.5)
    for x in (30.0, 87.5):
        words(axes, (x, up + 45.5), "asleep; looks for a command", 8.5, color=GREY)
    note = (
        "Here with three members. tblite and other ASE calculators run on rank 0 alone, while the"
        " others sleep."
    )
    words(axes, (12, up + 40.6), note, 9, ha="left")


def parallel_lanes(axes: Axes) -> None:
    """Parallel mode: labels, training and MD at the same time."""
    title = "Parallel mode, here with training_ranks: 2 and reference_groups: 2"
    words(axes, (2.5, 77.8), title, 11, ha="left", weight="bold")
    lanes = [("rank 0", 70.0), ("rank 1", 62.5), ("group 1", 55.0), ("group 2", 47.5)]
    for name, y in lanes:
        lane(axes, y, name)
    forces = "forces of its members"
    rows: list[list[tuple[float, float, str, str]]] = [
        [
            (12, 20, "MD of the trajectories\nthat do not wait", BLUE),
            (33, 20, "training of its\nmembers", GREEN),
            (54, 20, "MD of the trajectories\nthat do not wait", BLUE),
            (75, 20, "all wait: trains on with\nthe data at hand", GREEN),
            (96, 22, "MD of the trajectories\nthat do not wait", BLUE),
        ],
        [
            (12, 20, forces, BLUE),
            (33, 20, "training of its\nmembers", GREEN),
            (54, 20, forces, BLUE),
            (75, 20, "training of its\nmembers", GREEN),
            (96, 22, forces, BLUE),
        ],
        [
            (17, 30, "a point of trajectory 0", ORANGE),
            (49, 22, "of trajectory 3", ORANGE),
            (73, 27, "of trajectory 1", ORANGE),
            (102, 16, "of trajectory 0", ORANGE),
        ],
        [
            (25, 24, "of trajectory 2", ORANGE),
            (60, 31, "of trajectory 2", ORANGE),
            (93, 25, "a sanity check", ORANGE),
        ],
    ]
    for (_, y), row in zip(lanes, rows, strict=True):
        for x, width, text, colour in row:
            box(axes, (x, y), (width, 5), text, colour, 8.5)
    arrow(axes, (12, 44.6), (118, 44.6), colour=GREY)
    words(axes, (116, 42.8), "time", 9, color=GREY)
    note = (
        "What a group has finished is stored at once; the group goes on with the next in the queue."
    )
    words(axes, (12, 42.2), note, 9, ha="left")


def label_path(axes: Axes) -> None:
    """Lower panel: from a request to the training set and the snapshot."""
    panel(axes, (2, 3), (116, 30), "The way of a label (on rank 0)")
    size = (18, 9)
    row = 16.5
    boxes = [
        (4.5, "procedure\nasks for a structure", BLUE),
        (28, "label queue\nknown already? then\nit is in the store", PURPLE),
        (51.5, "engine: rank 0 with all\nranks, or a group of\nranks by itself", ORANGE),
        (75, "valid? SCF converged,\nfinite, forces below\nmax_force", "#fff6cf"),
        (98.5, "label store, fsynced:\nrestart/labels.jsonl\n(refused ones too)", PURPLE),
    ]
    for x, text, colour in boxes:
        box(axes, (x, row), size, text, colour, 8.5)
    for (x, *_), (following, *_) in pairwise(boxes):
        arrow(axes, (x + 18, row + 4.5), (following, row + 4.5))
    box(axes, (75, 4.6), size, "sets of the members,\nrestart point of the\ntrajectory", GREEN, 8.5)
    box(
        axes,
        (40, 4.6),
        (22, 9),
        "snapshot of everything,\nat whole steps:\nrestart/snapshot-*",
        PURPLE,
        8.5,
    )
    box(
        axes,
        (4.5, 4.6),
        (22, 9),
        "exports: data/, model/,\ncheckpoints/, results/,\nanalysis/",
        PALE,
        8.5,
    )
    arrow(axes, (107.5, row), (107.5, 9.1), (93, 9.1))
    arrow(axes, (75, 9.1), (62, 9.1))
    arrow(axes, (40, 9.1), (26.5, 9.1))
    arrow(axes, (37, row + 9), (37, row + 11), (107.5, row + 11), (107.5, row + 9))
    words(axes, (72, row + 12.1), "computed before: nothing is calculated twice", 8.5)


PICTURES = {
    "al_flowchart_example.png": algorithm,
    "parallel_algorithm_flowchart.png": parallel,
}


def main() -> None:
    """Write both pictures to a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    mpl.rcdefaults()
    # No date and no version in the files; which script drew them shows whether they are outdated.
    origin = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    for name, draw in PICTURES.items():
        figure = draw()
        figure.savefig(folder / name, dpi=DPI, metadata={"Software": None, "Source": origin})
        plt.close(figure)


if __name__ == "__main__":
    main()
