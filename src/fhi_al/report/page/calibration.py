"""The uncertainty against the true error, and the scale between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fhi_al.report.journal import Entry
from fhi_al.report.page.figures import (
    INK,
    Figure,
    Panel,
    Table,
    Trace,
    axis,
    color_of,
    line,
    points,
    rounded,
    thinned,
)
from fhi_al.report.record import RunRecord


def calibration_figure(record: RunRecord) -> Figure:
    """Pairs of both, and what was fitted to them."""
    key, title = "calibration", "Uncertainty against true error"
    entries = [
        entry
        for entry in record.events.of("calibration")
        if entry["uncertainty"] > 0 and entry["true_error"] > 0
    ]
    if not entries:
        return Figure(
            key,
            title,
            missing="The true error is measured where a structure of active learning gets a label; "
            "without regard to its uncertainty, at sanity checks (sanity_skip). There is none yet.",
        )
    systems = list(dict.fromkeys(entry["system"] for entry in entries))
    traces = list(_measured(record, entries, systems))
    ends = [extreme(entry["uncertainty"] for entry in entries) for extreme in (min, max)]
    latest = {e["system"]: e for e in entries if e.get("scale") is not None}
    for place, system in enumerate(systems):
        if system in latest:
            name = _of_system(record, "scale × uncertainty", system, systems)
            color = INK if len(systems) == 1 else color_of(place)
            traces += _fit(latest[system], ends, name, color)
    layout = {
        "xaxis": axis("uncertainty (meV/Å)", log=True),
        "yaxis": axis("true error (meV/Å)", log=True),
    }
    return Figure(
        key,
        title,
        "How far the members disagree on a structure, and the true error of their mean there (both "
        "of the atom for which it is largest, or as the uncertainty measure has it). The line is "
        "true error = scale × uncertainty with its 95 % interval, fitted to the last sanity "
        "checks, which are chosen without regard to their uncertainty. Points near the line, and a "
        "rank correlation near 1, mean that the threshold picks the right structures; a scale far "
        "above 1, that the members agree more than they are right.",
        [Panel(traces, layout)],
        tables=list(_fits(record, latest)),
    )


def _measured(
    record: RunRecord, entries: Sequence[Entry], systems: Sequence[int | str]
) -> Iterator[Trace]:
    """Uncertainties and true errors, by system and by why they were measured."""
    for place, system in enumerate(systems):
        for counts, name, symbol in (
            (False, "threshold crossed", "circle-open"),
            (True, "sanity check", "circle"),
        ):
            of_it = [e for e in entries if e["counts"] is counts and e["system"] == system]
            some = [of_it[k] for k in thinned(len(of_it))]
            if some:
                yield points(
                    rounded(1000 * entry["uncertainty"] for entry in some),
                    rounded(1000 * entry["true_error"] for entry in some),
                    _of_system(record, name, system, systems),
                    color_of(place),
                    marker={"size": 6, "opacity": 0.8, "symbol": symbol},
                )


def _of_system(
    record: RunRecord, name: str, system: int | str, systems: Sequence[int | str]
) -> str:
    return name if len(systems) == 1 else f"{name}, {record.system_name(system)}"


def _fit(entry: Entry, ends: Sequence[float], name: str, color: str) -> Iterator[Trace]:
    x = rounded(1000 * end for end in ends)
    band = {"mode": "lines", "line": {"width": 0}, "showlegend": False, "hoverinfo": "skip"}
    for share, fill in (("low", {}), ("high", {"fill": "tonexty", "fillcolor": "band"})):
        y = rounded(1000 * entry[share] * end for end in ends)
        yield {"type": "scatter", "x": x, "y": y, **band, **fill}
    yield line(x, rounded(1000 * entry["scale"] * end for end in ends), name, color)


def _fits(record: RunRecord, latest: Mapping[int | str, Entry]) -> Iterator[Table]:
    if not latest:
        return
    header = ["system", "sanity checks", "scale", "95 % interval", "within 1×", "within 2×"]
    rows = [
        [
            record.system_name(system),
            str(entry["n_pairs"]),
            f"{entry['scale']:.3g}",
            f"{entry['low']:.3g} to {entry['high']:.3g}",
            f"{100 * entry['within_1']:.0f} %",
            f"{100 * entry['within_2']:.0f} %",
            "–" if entry["spearman"] is None else f"{entry['spearman']:.2f}",
        ]
        for system, entry in latest.items()
    ]
    yield Table([*header, "rank correlation"], rows)
