"""Along the trajectories of active learning: uncertainty and threshold, temperature, energy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from fhi_al.report.journal import Entry
from fhi_al.report.page.figures import (
    INK,
    RED,
    Figure,
    Panel,
    Trace,
    axis,
    color_of,
    line,
    points,
    rounded,
    thinned,
)
from fhi_al.report.record import RunRecord

# Points of all trajectories of a figure together.
_MOST_POINTS = 6000
# More trajectories than these are not told apart by a legend.
_MOST_NAMED = 8
_DASHES = ("solid", "dash", "dot")
_NO_CHECKS = "Active learning has not begun: there are no checks along MD yet."


def md_figures(record: RunRecord) -> Iterator[Figure]:
    """All of this page's section."""
    checks = record.events.of("check")
    yield _uncertainty(record, checks)
    yield _temperature(record, checks)
    yield _energy(record, checks)
    if any(entry.get("volume") is not None for entry in checks) and _volume_changes(checks):
        yield _volume(record, checks)


def _time(record: RunRecord) -> tuple[str, float]:
    """Title of the time axis, and what a step is in its unit."""
    timestep = record.timestep_fs
    if timestep is None:
        return "MD step", 1.0
    return "MD time (ps)", 1e-3 * timestep


def _trajectories(checks: Sequence[Entry]) -> dict[int, list[Entry]]:
    found: dict[int, list[Entry]] = {}
    for entry in checks:
        found.setdefault(entry["trajectory"], []).append(entry)
    return dict(sorted(found.items()))


def _lines(
    record: RunRecord, checks: Sequence[Entry], value: Callable[[Entry], float]
) -> list[Trace]:
    """A line for each trajectory."""
    of_all = _trajectories(checks)
    _, per_step = _time(record)
    several = len({(entry["system"], entry["md"]) for entry in checks}) > 1
    traces: list[Trace] = []
    for place, (index, entries) in enumerate(of_all.items()):
        some = [entries[k] for k in thinned(len(entries), max(20, _MOST_POINTS // len(of_all)))]
        where = ", ".join(filter(None, (entries[0]["system"], entries[0]["md"])))
        traces.append(
            line(
                rounded(entry["md_step"] * per_step for entry in some),
                rounded(value(entry) for entry in some),
                f"{index}: {where}" if several else f"trajectory {index}",
                color_of(place),
                line={"width": 1.0},
                opacity=0.8 if len(of_all) <= _MOST_NAMED else 0.5,
                showlegend=len(of_all) <= _MOST_NAMED,
            )
        )
    return traces


def _uncertainty(record: RunRecord, checks: Sequence[Entry]) -> Figure:
    key, title = "uncertainty_md", "Uncertainty and threshold along MD"
    if not checks:
        return Figure(key, title, missing=_NO_CHECKS)
    name, per_step = _time(record)
    traces = _lines(record, checks, lambda entry: 1000 * entry["uncertainty"])
    for place, system in enumerate(dict.fromkeys(entry["system"] for entry in checks)):
        of_steps = {
            entry["md_step"]: entry["threshold"]
            for entry in checks
            if entry["system"] == system and entry["threshold"] is not None
        }
        known = sorted(of_steps.items())
        some = [known[k] for k in thinned(len(known), 600)]
        traces.append(
            line(
                rounded(step * per_step for step, _ in some),
                rounded(1000 * limit for _, limit in some),
                f"threshold, {system}" if system else "threshold",
                INK,
                line={"width": 1.8, "dash": _DASHES[place % 3], "shape": "hv"},
            )
        )
    crossed = [entry for entry in checks if entry["crosses"]]
    some_crossed = [crossed[k] for k in thinned(len(crossed), 1500)]
    traces.append(
        points(
            rounded(entry["md_step"] * per_step for entry in some_crossed),
            rounded(1000 * entry["uncertainty"] for entry in some_crossed),
            "label asked for",
            RED,
            marker={"size": 7, "symbol": "circle-open", "line": {"width": 1.5}},
        )
    )
    return Figure(
        key,
        title,
        "The members' disagreement at each check. Where it crosses the threshold (rings) the "
        "structure gets a label. Both should fall as the models learn; a threshold that stays high "
        "lets structures pass that the models do not know."
        + _n_trajectories(checks)
        + f" Checks: {len(checks)}, of which {len(crossed)} crossed.",
        [Panel(traces, {"xaxis": axis(name), "yaxis": axis("uncertainty (meV/Å)", log=True)})],
    )


def _n_trajectories(checks: Sequence[Entry]) -> str:
    n = len({entry["trajectory"] for entry in checks})
    return f" {n} trajectories." if n > _MOST_NAMED else ""


def _missing(checks: Sequence[Entry], what: str) -> str:
    if not checks:
        return _NO_CHECKS
    return (
        f"The checks along MD do not say the {what}: they were made by an earlier program, which "
        "did not write it down (restart/journal.jsonl)."
    )


def _temperature(record: RunRecord, checks: Sequence[Entry]) -> Figure:
    key, title = "temperature_md", "Temperature along MD"
    known = [entry for entry in checks if entry.get("temperature") is not None]
    if not known:
        return Figure(key, title, missing=_missing(checks, "temperature"))
    name, per_step = _time(record)
    traces = _lines(record, known, lambda entry: entry["temperature"])
    target = record.temperature_k
    if target is not None:
        steps = [entry["md_step"] * per_step for entry in known]
        ends = rounded([min(steps), max(steps)])
        traces.append(line(ends, [target] * 2, "asked for", INK, line={"dash": "dash"}))
    blocks = {(entry["system"], entry["md"]) for entry in known}
    means = ", ".join(
        f"{' '.join(filter(None, block))} {_mean_temperature(known, block)}"
        for block in sorted(blocks)
    )
    return Figure(
        key,
        title,
        "Kinetic temperature at each check. It fluctuates about the one asked for, the more the "
        "fewer atoms there are; a trajectory that goes back to its last good point starts with new "
        f"velocities. Mean: {means}.",
        [
            Panel(
                traces, {"xaxis": axis(name), "yaxis": axis("temperature (K)", rangemode="tozero")}
            )
        ],
    )


def _mean_temperature(checks: Sequence[Entry], block: tuple[str, str]) -> str:
    values = [e["temperature"] for e in checks if (e["system"], e["md"]) == block]
    return f"{np.mean(values):.0f} K"


def _n_atoms(record: RunRecord) -> dict[str, int]:
    """Atoms of each system, by the name that it has in the journal."""
    found: dict[str, int] = {}
    for label in record.good:
        if not label.origin.is_derived:
            found.setdefault(label.origin.system, len(label.numbers))
    return found


def _energy(record: RunRecord, checks: Sequence[Entry]) -> Figure:
    key, title = "energy_md", "Potential energy along MD"
    n_atoms = _n_atoms(record)
    known = [e for e in checks if e.get("energy") is not None and e["system"] in n_atoms]
    if not known:
        return Figure(key, title, missing=_missing(checks, "energy"))
    name, _ = _time(record)
    # Of labels: a zero that does not move with the models.
    zero = {
        system: float(np.median([x.energy for x in record.good if x.origin.system == system]))
        for system in n_atoms
    }
    traces = _lines(
        record, known, lambda e: 1000 * (e["energy"] - zero[e["system"]]) / n_atoms[e["system"]]
    )
    return Figure(
        key,
        title,
        "The members' mean energy at each check, relative to the median of the system's labels. A "
        "drift to ever lower energies would be a hole in the potential; steps are training rounds "
        "or trajectories that went back.",
        [Panel(traces, {"xaxis": axis(name), "yaxis": axis("energy (meV/atom)")})],
    )


def _volume_changes(checks: Sequence[Entry]) -> bool:
    volumes: dict[int, set[float]] = {}
    for entry in checks:
        if entry.get("volume") is not None:
            volumes.setdefault(entry["trajectory"], set()).add(round(entry["volume"], 6))
    return any(len(each) > 1 for each in volumes.values())


def _volume(record: RunRecord, checks: Sequence[Entry]) -> Figure:
    known = [entry for entry in checks if entry.get("volume") is not None]
    name, _ = _time(record)
    traces = _lines(record, known, lambda entry: entry["volume"])
    return Figure(
        "volume_md",
        "Volume along MD",
        "Volume of the cell at each check, with a barostat.",
        [Panel(traces, {"xaxis": axis(name), "yaxis": axis("volume (Å³)")})],
    )
