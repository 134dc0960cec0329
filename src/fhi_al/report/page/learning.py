"""Learning curves: the error against labels, against time, and over the epochs of the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fhi_al.core.run_state import Stage
from fhi_al.report.journal import Entry
from fhi_al.report.page.figures import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    Figure,
    Panel,
    Trace,
    axis,
    color_of,
    line,
    rounded,
    thinned,
    time_unit,
)
from fhi_al.report.record import RunRecord

# Of the journal -> in words, and its colour.
_PHASES = {
    "initial": ("initial dataset", ORANGE),
    str(Stage.INITIAL_SAMPLING): ("initial dataset", ORANGE),
    str(Stage.INITIAL_CONVERGENCE): ("initial convergence", PURPLE),
    str(Stage.ACTIVE_LEARNING): ("active learning", BLUE),
    str(Stage.FINAL_CONVERGENCE): ("final convergence", GREEN),
}
_ERROR = "force MAE, validation (meV/Å)"


def learning_figures(record: RunRecord) -> Iterator[Figure]:
    """All of this page's section."""
    rounds = record.events.of("ensemble")
    yield _against_labels(record, rounds)
    yield _against_time(record)
    yield _final_convergence(record)


def _against_labels(record: RunRecord, rounds: Sequence[Entry]) -> Figure:
    key, title = "learning_labels", "Error against number of labels"
    if not rounds:
        return Figure(key, title, missing="No training round has ended yet.")
    last: dict[tuple[str, int], Entry] = {}
    for entry in rounds:
        last[entry["phase"], entry["n_training"] + entry["n_validation"]] = entry
    traces: list[Trace] = []
    for phase in dict.fromkeys(phase for phase, _ in last):
        name, color = _PHASES.get(phase, (phase, BLUE))
        of_it = [(n, entry) for (each, n), entry in last.items() if each == phase]
        traces.append(
            _curve([n for n, _ in of_it], [entry["mae_forces"] for _, entry in of_it], name, color)
        )
    systems = sorted({one["system"] for e in last.values() for one in e["by_system"]})
    if len(systems) > 1:
        traces += [_of_system(record, last, system) for system in systems]
    traces += _target(record, [n for _, n in last])
    return Figure(
        key,
        title,
        "Force error on the members' validation points after the last training round with so many "
        "labels in the first member's sets (training and validation). It should fall as labels "
        "are added; where it is flat, more labels of the same kind help little."
        + (" Dotted: each system." if len(systems) > 1 else "")
        + _about_target(record),
        [
            Panel(
                traces,
                {"xaxis": axis("labels in the sets"), "yaxis": axis(_ERROR, log=True)},
            )
        ],
    )


def _of_system(record: RunRecord, last: dict[tuple[str, int], Entry], system: int) -> Trace:
    found = [
        (n, one["mae_forces"])
        for (_, n), entry in last.items()
        for one in entry["by_system"]
        if one["system"] == system
    ]
    return line(
        [n for n, _ in found],
        rounded(1000 * mae for _, mae in found),
        record.system_name(system),
        color_of(system + 3),
        line={"dash": "dot", "width": 1.2},
    )


def _against_time(record: RunRecord) -> Figure:
    key, title = "learning_time", "Error and labels against time"
    timed = [
        (seconds, entry)
        for seconds, entry in zip(record.entry_seconds, record.events.entries, strict=True)
        if seconds is not None and entry["kind"] == "ensemble"
    ]
    looks = _looks(record)
    if not timed or not looks:
        return Figure(
            key,
            title,
            missing="When each training round ended is not known: the run keeps "
            "report/activity.jsonl unless MISC.report is false.",
        )
    unit, size = time_unit(looks[-1][0])
    traces: list[Trace] = []
    for phase in dict.fromkeys(entry["phase"] for _, entry in timed):
        name, color = _PHASES.get(phase, (phase, BLUE))
        of_it = [(s, e) for s, e in timed if e["phase"] == phase]
        some = [of_it[k] for k in thinned(len(of_it))]
        x = rounded(seconds / size for seconds, _ in some)
        traces.append(_curve(x, [entry["mae_forces"] for _, entry in some], name, color))
    some_looks = [looks[k] for k in thinned(len(looks), 600)]
    traces.append(
        line(
            rounded(seconds / size for seconds, _ in some_looks),
            [n for _, n in some_looks],
            "labels (right)",
            INK,
            yaxis="y2",
            line={"dash": "dot", "width": 1.2, "shape": "hv"},
        )
    )
    layout = {
        "xaxis": axis(f"wall time of all launches ({unit})"),
        "yaxis": axis(_ERROR, log=True),
        "yaxis2": axis(
            "reference calculations",
            tickmode="auto",
            overlaying="y",
            side="right",
            showgrid=False,
            rangemode="tozero",
        ),
    }
    return Figure(
        key,
        title,
        "The same error as time goes by, and the reference calculations done (dotted). A long "
        "stretch without either is time that went elsewhere: see the timeline of the ranks.",
        [Panel(traces, layout)],
    )


def _looks(record: RunRecord) -> list[tuple[float, int]]:
    """Seconds over all launches, and labels then."""
    found, past_s = [], 0.0
    for launch in record.launches:
        found += [(past_s + look.at_s, look.n_labels) for look in launch.looks]
        past_s += launch.lasted_s
    return found


def _final_convergence(record: RunRecord) -> Figure:
    key, title = "convergence", "Final convergence"
    epochs = [
        entry
        for entry in record.events.of("epoch")
        if entry["phase"] == str(Stage.FINAL_CONVERGENCE) and entry["mae_forces"] is not None
    ]
    if not epochs:
        return Figure(
            key, title, missing="The models have not been converged on all labels (converge_al)."
        )
    traces = []
    for place, member in enumerate(sorted({entry["member"] for entry in epochs})):
        of_it = [entry for entry in epochs if entry["member"] == member]
        some = [of_it[k] for k in thinned(len(of_it), 600)]
        traces.append(
            line(
                [entry["epoch"] for entry in some],
                rounded(1000 * entry["mae_forces"] for entry in some),
                f"member {member}",
                color_of(place),
                mode="lines" if len(some) > 30 else "lines+markers",
            )
        )
    traces += _target(record, [entry["epoch"] for entry in epochs])
    return Figure(
        key,
        title,
        "Each member on its own validation points while it is trained on all labels. A curve that "
        "still falls at its end was cut short (max_final_epochs, patience).",
        [Panel(traces, {"xaxis": axis("epoch"), "yaxis": axis(_ERROR, log=True)})],
    )


def _curve(x: Sequence[Any], maes: Sequence[float], name: str, color: str) -> Trace:
    return line(
        x,
        rounded(1000 * mae for mae in maes),
        name,
        color,
        mode="lines+markers",
        marker={"size": 5},
    )


def _target(record: RunRecord, x: Sequence[float]) -> list[Trace]:
    """The error that was asked for, as a line over these places."""
    wanted = record.wanted_error
    if wanted is None or not x:
        return []
    ends = [min(x), max(x)]
    style = {"dash": "dash", "width": 1.0}
    return [line(ends, rounded([1000 * wanted] * 2), "desired_acc", INK, line=style)]


def _about_target(record: RunRecord) -> str:
    wanted = record.wanted_error
    return "" if wanted is None else f" Dashed: the error asked for, {1000 * wanted:g} meV/Å."
