"""Figures and tables of the report as plain data.  Touches no files.

A figure is one or several panels, each of which plotly.js draws from a list of traces and a layout;
what all panels have in common (fonts, colours of the frame) is in ``assets/report.js``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fhi_al.core.structure import Array

# Of M. Okabe and K. Ito, which the colour-blind tell apart; in light and in dark.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, GREY = "#CC79A7", "#56B4E9", "#8A8F98"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED, GREY)
# Lines that are no data; report.js gives it a colour that is seen on the background.
INK = "ink"
# Of a trace; more are thinned out.
MOST_POINTS = 2500
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star")

Trace = dict[str, Any]


@dataclass(frozen=True)
class Panel:
    """What plotly.js draws in one place."""

    traces: Sequence[Trace]
    layout: dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows of text under a header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Figure:
    """A figure with what one should see in it.

    Parameters
    ----------
    key : str
        Its name in the file.
    title, caption : str
    panels : sequence of Panel
        Side by side where there is room.
    missing : str
        Why there are no panels, and what would have to be kept.
    tables : sequence of Table
        Below it.
    """

    key: str
    title: str
    caption: str = ""
    panels: Sequence[Panel] = ()
    missing: str = ""
    tables: Sequence[Table] = field(default_factory=tuple)


def color_of(place: int) -> str:
    """The colour of the k-th of several."""
    return PALETTE[place % len(PALETTE)]


def rounded(values: Iterable[float | None], digits: int = 5) -> list[float | None]:
    """Values with as many digits as a figure shows; None for what is no number."""
    return [
        None if value is None or not np.isfinite(value) else float(f"{value:.{digits}g}")
        for value in values
    ]


def axis(title: str, *, log: bool = False, **more: Any) -> dict[str, Any]:
    """An axis with its title and unit."""
    kind = {"type": "log"} if log else {}
    return {"title": {"text": title}, **kind, **more}


def points(x: Iterable[Any], y: Iterable[Any], name: str, color: str, **more: Any) -> Trace:
    """Markers."""
    marker = {"color": color, "size": 5} | more.pop("marker", {})
    return {"type": "scatter", "mode": "markers", "x": list(x), "y": list(y), "name": name} | {
        "marker": marker,
        **more,
    }


def line(x: Iterable[Any], y: Iterable[Any], name: str, color: str, **more: Any) -> Trace:
    """A line."""
    style = {"color": color, "width": 1.6} | more.pop("line", {})
    return {"type": "scatter", "mode": "lines", "x": list(x), "y": list(y), "name": name} | {
        "line": style,
        **more,
    }


def thinned(n: int, most: int = MOST_POINTS, always: Iterable[int] = ()) -> list[int]:
    """Places of at most about so many of n, evenly spread, and some that are always among them."""
    if n <= most:
        return list(range(n))
    return sorted({int(place) for place in np.linspace(0, n - 1, most)} | set(always))


def distinct(x: Array, y: Array, n_cells: int = 220) -> list[int]:
    """Places of one point for each cell of a grid: those on top of others are not seen anyway."""
    found: dict[tuple[int, int], int] = {}
    spans = [max(float(np.ptp(each)), 1e-300) for each in (x, y)]
    columns = np.floor((np.asarray(x) - np.min(x)) / spans[0] * n_cells).astype(int)
    rows = np.floor((np.asarray(y) - np.min(y)) / spans[1] * n_cells).astype(int)
    for place, cell in enumerate(zip(columns.tolist(), rows.tolist(), strict=True)):
        found.setdefault(cell, place)
    return list(found.values())


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} d"


def time_unit(seconds: float) -> tuple[str, float]:
    """A unit in which so many seconds are a number that one can read, and its seconds."""
    for name, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds > 3 * size:
            return name, size
    return "s", 1.0


def mev(value: float | None, digits: int = 1) -> str:
    """A value in eV as meV."""
    return "–" if value is None or not np.isfinite(value) else f"{1000 * value:.{digits}f}"
