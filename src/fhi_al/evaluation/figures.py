"""Figures of an evaluation: predictions against labels, spread against error.  Owns their files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase.data import chemical_symbols

from fhi_al.core.structure import Array
from fhi_al.evaluation.errors import Spread
from fhi_al.evaluation.predictions import Labelled, Predicted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

# Draws into axes of matplotlib.
Panel = Callable[["Axes"], None]
# Points of one panel: more take long to draw and show no more.
MOST_POINTS = 20_000
_PANEL_INCH = 4.0


def draw(path: Path, panels: Sequence[Panel]) -> None:
    """Draw panels side by side; without matplotlib say so in one line."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        log.info("no %s: matplotlib is not installed (pip install matplotlib)", path)
        return
    # A figure by itself: pyplot would choose a display.
    figure: Figure = Figure(figsize=(_PANEL_INCH * len(panels), _PANEL_INCH), layout="constrained")
    every = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip(every, panels, strict=True):
        panel(axes)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def draw_parity(
    path: Path, structures: Sequence[Labelled], found: Predicted, spread: Spread | None, whose: str
) -> None:
    """Draw ``parity.png``: forces, energies, stress where there is one, spread where there is one.

    Parameters
    ----------
    path : Path
    structures : sequence of Labelled
    found : Predicted
    spread : Spread or None
    whose : str
        Of which model the predictions are.
    """
    panels = [
        lambda axes: _forces(axes, structures, found, whose),
        lambda axes: _energies(axes, structures, found),
    ]
    if any(one is not None for one in found.stress):
        panels.append(lambda axes: _stress(axes, structures, found))
    if spread is not None and any(value > 0 for value in spread.uncertainties):
        panels.append(lambda axes: _spread(axes, spread))
    draw(path, panels)


def _forces(axes: Axes, structures: Sequence[Labelled], found: Predicted, whose: str) -> None:
    numbers = np.concatenate([each.label.numbers for each in structures])
    true = np.concatenate([each.label.forces for each in structures])
    predicted = np.concatenate(found.forces)
    for number in np.unique(numbers):
        own = numbers == number
        _points(axes, true[own].ravel(), predicted[own].ravel(), chemical_symbols[int(number)])
    _diagonal(axes, true.ravel(), predicted.ravel())
    axes.set(xlabel="reference force (eV/Å)", ylabel=f"force of {whose} (eV/Å)")
    axes.legend(fontsize="small", markerscale=3)


def _energies(axes: Axes, structures: Sequence[Labelled], found: Predicted) -> None:
    """Per atom, from the mean of each composition: else compositions are all that is seen."""
    n_atoms = np.array([len(each.label.numbers) for each in structures])
    true = np.array([each.label.energy for each in structures]) / n_atoms
    predicted = found.energies / n_atoms
    kinds: dict[bytes, list[int]] = {}
    for place, each in enumerate(structures):
        kinds.setdefault(np.bincount(each.label.numbers).tobytes(), []).append(place)
    for places in kinds.values():
        mean = true[places].mean()
        true[places] -= mean
        predicted[places] -= mean
    _points(axes, 1000 * true, 1000 * predicted, None)
    _diagonal(axes, 1000 * true, 1000 * predicted)
    axes.set(
        xlabel="reference energy − mean of its composition (meV/atom)",
        ylabel="predicted energy − the same mean (meV/atom)",
    )


def _stress(axes: Axes, structures: Sequence[Labelled], found: Predicted) -> None:
    pairs = [
        (each.label.stress, one)
        for each, one in zip(structures, found.stress, strict=True)
        if one is not None and each.label.stress is not None
    ]
    true, predicted = (1000 * np.concatenate([p[k].ravel() for p in pairs]) for k in (0, 1))
    _points(axes, true, predicted, None)
    _diagonal(axes, true, predicted)
    axes.set(xlabel="reference stress (meV/Å³)", ylabel="predicted stress (meV/Å³)")


def _spread(axes: Axes, spread: Spread) -> None:
    uncertainties, errors = np.array(spread.uncertainties), np.array(spread.errors)
    shown = (uncertainties > 0) & (errors > 0)  # both axes are logarithmic
    axes.scatter(uncertainties[shown], errors[shown], s=8, alpha=0.5, linewidths=0)
    ends = np.array([uncertainties[shown].min(), uncertainties[shown].max()])
    if spread.fit is not None:
        axes.plot(ends, spread.fit.scale * ends, "k-", label=f"{spread.fit.scale:.2f} × spread")
        axes.legend(fontsize="small")
    axes.set(xscale="log", yscale="log", xlabel="spread (eV/Å)", ylabel="true error (eV/Å)")


def _points(axes: Axes, true: Array, predicted: Array, name: str | None) -> None:
    step = -(-len(true) // MOST_POINTS)
    axes.scatter(
        true[::step], predicted[::step], s=4, alpha=0.4, linewidths=0, label=name, rasterized=True
    )


def _diagonal(axes: Axes, true: Array, predicted: Array) -> None:
    ends = [float(min(true.min(), predicted.min())), float(max(true.max(), predicted.max()))]
    axes.plot(ends, ends, "k-", linewidth=0.7, zorder=0)
