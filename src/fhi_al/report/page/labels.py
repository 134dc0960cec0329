"""Where the labels went, and how different their structures are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fhi_al.core.diversity import fingerprints_of_any
from fhi_al.core.environments import radial_descriptors
from fhi_al.core.label import DISPLACED_KINDS
from fhi_al.core.structure import Array
from fhi_al.labels.records import Record, Rejected
from fhi_al.report.page.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    Figure,
    Panel,
    Table,
    Trace,
    axis,
    points,
    rounded,
    thinned,
)
from fhi_al.report.record import RunRecord

# Origin in words -> its colour and symbol; in this order.
_ORIGINS = {
    "initial dataset": (ORANGE, "circle"),
    "displaced structures": (SKY, "square"),
    "your own data": (GREY, "square"),
    "active learning": (BLUE, "diamond"),
    "sanity checks": (GREEN, "triangle-up"),
    "final test": (PURPLE, "star"),
    "discarded": (RED, "x"),
}
_PHASES = {
    "initial": "initial dataset",
    "active_learning": "active learning",
    "sanity": "sanity checks",
    "test": "final test",
    "imported": "your own data",
    "file": "your own data",
}
# Of the map: what bounds its time to a second or two.
_MOST_ATOMS = 40_000
_MOST_STRUCTURES = 3000
_CUTOFF = 5.0  # A
_MOST_MAPS = 4


def label_figures(record: RunRecord) -> Iterator[Figure]:
    """All of this page's section."""
    yield _where(record)
    yield _map(record)


def origin(record: Record) -> str:
    """Where a result comes from, in words."""
    if isinstance(record, Rejected):
        return "discarded"
    if record.origin.source in DISPLACED_KINDS:
        return "displaced structures"
    return _PHASES.get(record.origin.phase, record.origin.phase)


def _place(record: RunRecord, one: Record) -> str:
    """System and MD block."""
    name = record.system_name(one.system)
    return f"{name}, {one.origin.md}" if one.origin.md else name


def _where(record: RunRecord) -> Figure:
    key, title = "labels_where", "Where the labels went"
    if not record.labels:
        return Figure(key, title, missing="There is no label yet.")
    counts = Counter((_place(record, one), origin(one)) for one in record.labels)
    # Read from the top.
    places = sorted({place for place, _ in counts}, reverse=True)
    found = [name for name in _ORIGINS if any(counts[place, name] for place in places)]
    traces: list[Trace] = [
        {
            "type": "bar",
            "orientation": "h",
            "y": places,
            "x": [counts[place, name] for place in places],
            "name": name,
            "marker": {"color": _ORIGINS[name][0]},
        }
        for name in found
    ]
    layout = {
        "barmode": "stack",
        "height": 130 + 30 * len(places),
        "xaxis": axis("labels"),
        "yaxis": {"automargin": True, "type": "category"},
    }
    rows = [
        [place, *(str(counts[place, name] or "–") for name in found), str(_sum(counts, place))]
        for place in reversed(places)
    ]
    if len(rows) > 1:
        sums = [sum(counts[place, name] for place in places) for name in found]
        rows.append(["all", *map(str, sums), str(len(record.labels))])
    return Figure(
        key,
        title,
        "Reference calculations by system and MD block (named by its temperature where it has no "
        "name of its own), coloured by what asked for them. Sanity checks measure the true error "
        "and need not be trained on; discarded results failed the validation.",
        [Panel(traces, layout)],
        tables=[Table(["system, MD block", *found, "all"], rows), *_fates(record)],
    )


def _sum(counts: Counter[tuple[str, str]], place: str) -> int:
    return sum(n for (one, _), n in counts.items() if one == place)


def _fates(record: RunRecord) -> Iterator[Table]:
    """What the labels are used for."""
    if not record.sets:
        return
    training = {key for keys, _ in record.sets for key in keys}
    validation = {key for _, keys in record.sets for key in keys}
    test = set(record.state.test) if record.state is not None else set()
    fates: dict[str, list[Record]] = {}
    for one in record.labels:
        if isinstance(one, Rejected):
            fate = "discarded"
        elif one.key in test:
            fate = "test: no member sees them"
        elif one.key in training and one.key in validation:
            fate = "training of some members, validation of others"
        elif one.key in training:
            fate = "training"
        elif one.key in validation:
            fate = "validation"
        else:
            fate = "in no set: reference MD between samples, sanity checks, labels to be taken in"
        fates.setdefault(fate, []).append(one)
    yield Table(
        ["what they are used for", "labels"],
        [
            [fate, str(len(of_it))]
            for fate, of_it in sorted(fates.items(), key=lambda x: -len(x[1]))
        ],
    )


def _map(record: RunRecord) -> Figure:
    key, title = "map", "Map of the labelled structures"
    systems: dict[int, list[Record]] = {}
    for one in record.labels:
        systems.setdefault(one.system, []).append(one)
    # Two axes need three structures.
    large = sorted((s for s in systems if len(systems[s]) > 2), key=lambda s: -len(systems[s]))
    if not large:
        return Figure(key, title, missing="It takes at least three labels of a system.")
    share = max(1, min(len(large), _MOST_MAPS))
    panels = [_panel(record, system, systems[system], share) for system in large[:_MOST_MAPS]]
    left_out = len(systems) - len(panels)
    return Figure(
        key,
        title,
        "Each point is a structure; near points are alike. Axes: the first two principal "
        "components of smooth histograms of interatomic distances (per element, up to 5 Å; no "
        "model is involved), with the share of the variance that they carry. Active learning "
        "should spread beyond the initial dataset, not pile up on it."
        + (f" The {left_out} systems with the fewest labels are not shown." if left_out else ""),
        panels,
    )


def _panel(record: RunRecord, system: int, records: Sequence[Record], n_panels: int) -> Panel:
    most = _MOST_ATOMS // n_panels // max(len(one.numbers) for one in records)
    some = [records[k] for k in thinned(len(records), max(3, min(most, _MOST_STRUCTURES)))]
    places, shares = principal_components(
        [(one.numbers, one.positions, one.cell, one.pbc) for one in some]
    )
    traces: list[Trace] = []
    for name, (color, symbol) in _ORIGINS.items():
        of_it = [k for k, one in enumerate(some) if origin(one) == name]
        if of_it:
            traces.append(
                points(
                    rounded(places[of_it, 0], 4),
                    rounded(places[of_it, 1], 4),
                    name,
                    color,
                    marker={"symbol": symbol, "size": 6, "opacity": 0.8},
                    text=[some[k].origin.place for k in of_it],
                    hoverinfo="text",
                )
            )
    layout = {
        "title": {"text": record.system_name(system)},
        "xaxis": axis(f"component 1 ({100 * shares[0]:.0f} %)", zeroline=False),
        "yaxis": axis(f"component 2 ({100 * shares[1]:.0f} %)", zeroline=False),
    }
    return Panel(traces, layout)


Geometry = tuple[NDArray[np.int64], Array, Array, bool]


def principal_components(geometries: Sequence[Geometry]) -> tuple[Array, tuple[float, float]]:
    """Two coordinates of each structure in which they differ most, and their shares.

    Parameters
    ----------
    geometries : sequence of (numbers, positions, cell, pbc)
        At least three; lengths in A.

    Returns
    -------
    (n_structures, 2), (share, share)
        In units of the scatter of an element's descriptors.
    """
    elements = sorted({int(number) for numbers, *_ in geometries for number in numbers})
    features = [radial_descriptors(*one, elements, _CUTOFF) for one in geometries]
    prints = fingerprints_of_any(features, [one[0] for one in geometries])
    centred = prints - prints.mean(axis=0)
    # Of the smaller of the two products of the matrix with itself.
    if centred.shape[0] <= centred.shape[1]:
        squares, vectors = np.linalg.eigh(centred @ centred.T)
        squares = np.maximum(squares, 0.0)
        found = vectors[:, ::-1][:, :2] * np.sqrt(squares[::-1][:2])
    else:
        squares, vectors = np.linalg.eigh(centred.T @ centred)
        squares = np.maximum(squares, 0.0)
        found = centred @ vectors[:, ::-1][:, :2]
    total = float(squares.sum()) or 1.0
    return found, (float(squares[-1]) / total, float(squares[-2]) / total)
