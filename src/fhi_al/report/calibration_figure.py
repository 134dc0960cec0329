"""The figure of uncertainties against true errors, ``analysis/calibration.png``.  Owns it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fhi_al.report.journal import Entry, Journal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

log = logging.getLogger(__name__)

FIGURE = "calibration.png"


def draw_calibration(journal: Journal, folder: Path) -> None:
    """Draw what a run's journal says of the calibration; nothing if it has no such entries.

    Without matplotlib, say so in one line.
    """
    entries = [entry for entry in journal.entries() if entry["kind"] == "calibration"]
    if not entries:
        return
    try:
        from matplotlib.figure import Figure
    except ImportError:
        log.info(
            "no %s: matplotlib is not installed (pip install matplotlib); calibration.csv has the "
            "numbers",
            folder / FIGURE,
        )
        return
    # A figure by itself: pyplot would choose a display.
    figure = Figure(figsize=(9.0, 4.0))
    # Margins that fit; matplotlib would find them in twice the time of the drawing.
    margins = {"left": 0.08, "right": 0.98, "bottom": 0.14, "top": 0.96, "wspace": 0.22}
    errors, scales = figure.subplots(1, 2, gridspec_kw=margins)
    _draw_pairs(errors, entries)
    _draw_scales(scales, [entry for entry in entries if entry.get("scale") is not None])
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / FIGURE, dpi=120)


def _draw_pairs(axes: Axes, entries: Sequence[Entry]) -> None:
    for counts, name, color in ((False, "crossings", "0.6"), (True, "sanity checks", "C0")):
        chosen = [
            entry
            for entry in entries
            # Both axes are logarithmic.
            if entry["counts"] is counts and entry["uncertainty"] > 0 and entry["true_error"] > 0
        ]
        if chosen:
            axes.scatter(
                [entry["uncertainty"] for entry in chosen],
                [entry["true_error"] for entry in chosen],
                s=14,
                color=color,
                label=name,
            )
    last = next((entry for entry in reversed(entries) if entry.get("scale") is not None), None)
    if last is not None:
        ends = [
            extreme(entry["uncertainty"] for entry in entries if entry["uncertainty"] > 0)
            for extreme in (min, max)
        ]
        axes.plot(ends, [last["scale"] * end for end in ends], "k-", label="scale x uncertainty")
        axes.fill_between(
            ends,
            [last["low"] * end for end in ends],
            [last["high"] * end for end in ends],
            color="k",
            alpha=0.15,
            linewidth=0,
        )
    axes.set(xscale="log", yscale="log", xlabel="uncertainty (eV/A)", ylabel="true error (eV/A)")
    _plain_numbers(axes.xaxis, axes.yaxis)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")


def _draw_scales(axes: Axes, entries: Sequence[Entry]) -> None:
    for system in sorted({entry["system"] for entry in entries}, key=str):
        own = [entry for entry in entries if entry["system"] == system]
        number = range(1, len(own) + 1)
        (line,) = axes.plot(number, [entry["scale"] for entry in own], label=f"system {system}")
        axes.fill_between(
            number,
            [entry["low"] for entry in own],
            [entry["high"] for entry in own],
            color=line.get_color(),
            alpha=0.2,
            linewidth=0,
        )
    axes.set(yscale="log", xlabel="sanity checks", ylabel="scale, with its 95 % interval")
    _plain_numbers(axes.yaxis)


def _plain_numbers(*logarithmic: Axis) -> None:
    """0.2 instead of 2 x 10^-1: easier to read, and drawn in half of the time."""
    from matplotlib.ticker import LogFormatter

    class Plain(LogFormatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            # LogFormatter knows which labels would be crowded: they are empty.
            return f"{x:g}" if super().__call__(x, pos) else ""

    for axis in logarithmic:
        axis.set_major_formatter(Plain())
        axis.set_minor_formatter(Plain(minor_thresholds=(1, 0.4)))
