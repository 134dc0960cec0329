"""What the benchmarks of the ML side write beside their tables: the machine, and figures."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "mace-torch", "ase", "tblite", "numpy")


def machine() -> str:
    """Processor, cores and versions in a line."""
    name = platform.processor() or platform.machine()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"


def grid(rows: int, columns: int, height: float = 3.6) -> tuple[Any, Any]:
    """A matplotlib figure that needs no screen, and its axes by row and column."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    size = (4.8 * columns, height * rows)
    made, found = pyplot.subplots(rows, columns, figsize=size, squeeze=False)
    return made, found


def axes(columns: int = 1, height: float = 3.6) -> tuple[Any, Any]:
    """A figure with one row of axes."""
    made, found = grid(1, columns, height)
    return made, found[0]


def save(made: Any, path: Path) -> None:
    """Write a figure."""
    made.tight_layout()
    made.savefig(path, dpi=110)


def draw_gains(
    path: Path, gains: Mapping[str, tuple[float, float, float]], targets: Mapping[str, float]
) -> None:
    """Median, least and most of ratios as bars, with what was to be reached."""
    made, (axis,) = axes(height=0.45 * len(gains) + 1)
    for place, (name, (median, least, most)) in enumerate(gains.items()):
        error = [[median - least], [most - median]]
        axis.barh(place, median, xerr=error, color="tab:blue", capsize=3)
        if name in targets:
            axis.plot([targets[name]] * 2, [place - 0.4, place + 0.4], color="tab:red")
    axis.set_yticks(range(len(gains)), list(gains))
    axis.invert_yaxis()
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_xlabel("times as fast as MACE's own tools (red: to be reached)")
    save(made, path)


def draw_shares(path: Path, parts: Mapping[str, Mapping[str, float]]) -> None:
    """Seconds by what they were spent on, a bar for each system."""
    made, (axis,) = axes(height=2.6)
    names = list(dict.fromkeys(part for found in parts.values() for part in found))
    for place, found in enumerate(parts.values()):
        whole, left = sum(found.values()), 0.0
        for colour, name in enumerate(names):
            share = 100 * found.get(name, 0.0) / whole
            axis.barh(place, share, left=left, color=f"C{colour}", label="" if place else name)
            left += share
    axis.set_yticks(range(len(parts)), list(parts))
    axis.set_xlabel("% of the wall time after start-up")
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize="small")
    save(made, path)


def draw_scaling(path: Path, found: Mapping[str, Mapping[int, Sequence[float]]]) -> None:
    """Seconds over size on logarithmic axes, with a linear law through the largest size."""
    from statistics import median

    made, every = axes(len(found), 3.2)
    for axis, (name, seconds) in zip(every, found.items(), strict=True):
        sizes = list(seconds)
        times = [1000 * median(seconds[size]) for size in sizes]
        axis.loglog(sizes, times, "o-")
        axis.loglog(sizes, [times[-1] * size / sizes[-1] for size in sizes], "k--", linewidth=0.8)
        axis.set(title=name, xlabel="size", ylabel="ms")
    save(made, path)
