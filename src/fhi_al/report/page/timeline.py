"""Who did what when: the ranks over the wall time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fhi_al.core.structure import Array
from fhi_al.report.activity import Launch
from fhi_al.report.clock import ACTIVITIES, DFT, MD, OTHER, SNAPSHOTS, TRAINING, WAITING
from fhi_al.report.page.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    Figure,
    Panel,
    Table,
    Trace,
    axis,
    duration,
    rounded,
    time_unit,
)
from fhi_al.report.record import RunRecord

_COLORS = {
    DFT: ORANGE,
    "labels": ORANGE,
    TRAINING: BLUE,
    MD: GREEN,
    WAITING: GREY,
    SNAPSHOTS: PURPLE,
    OTHER: SKY,
}
_NAMES = {DFT: "labels", OTHER: "everything else"}
# Pieces of time of a row, and rows; more ranks of one role share a row.
_BINS = 160
_HEIGHT = 0.8
_MOST_ROWS = 16
RANK_0 = "rank 0"

# Activity -> (n_bins,), the share of each piece of time.
Shares = dict[str, Array]


def timeline_figures(record: RunRecord) -> Iterator[Figure]:
    """All of this page's section."""
    yield _timeline(record)


def _timeline(record: RunRecord) -> Figure:
    key, title = "timeline", "Who did what when"
    launches = [launch for launch in record.launches if launch.lasted_s > 0]
    tables = list(_totals(record))
    if not launches:
        return Figure(
            key,
            title,
            missing="Who did what when is kept in report/activity.jsonl unless MISC.report is "
            "false.",
            tables=tables,
        )
    total_s = sum(launch.lasted_s for launch in launches)
    unit, size = time_unit(total_s)
    traces: dict[str, Trace] = {}
    rows: list[str] = []
    shapes = []
    past_s = 0.0
    for launch in launches:
        n_bins = max(1, round(_BINS * launch.lasted_s / total_s))
        edges = np.linspace(0.0, launch.lasted_s, n_bins + 1)
        for name, shares in _rows(launch, edges):
            rows += [name] * (name not in rows)
            _draw(traces, rows.index(name), shares, (past_s + edges) / size)
        past_s += launch.lasted_s
        shapes.append(_border(past_s / size))
    for trace in traces.values():
        trace |= {key: rounded(trace[key]) for key in ("x", "y", "base", "width")}
    layout = {
        "barmode": "overlay",
        "bargap": 0,
        "height": 140 + 56 * len(rows),
        "xaxis": axis(f"wall time of all launches ({unit})"),
        "yaxis": {
            "tickvals": [-row for row in range(len(rows))],
            "ticktext": rows,
            "range": [0.5 - len(rows), 0.5],
            "showgrid": False,
            "zeroline": False,
        },
        "shapes": shapes[:-1],
    }
    n = len(record.launches)
    launched = f" {n} launches, with a line between them." if n > 1 else ""
    return Figure(
        key,
        title,
        "Each row is a rank (or ranks that do the same). The height of a colour is its share "
        "of a piece of time; where nothing is drawn there was nothing to do. Rank 0 drives; "
        "if it waits for labels much of the time, more ranks for labels help; if others have "
        "nothing to do, fewer are enough." + launched,
        [Panel(list(traces.values()), layout)],
        tables=tables,
    )


def _border(at: float) -> dict[str, object]:
    style = {"color": GREY, "width": 1, "dash": "dot"}
    return {"type": "line", "x0": at, "x1": at, "yref": "paper", "y0": 0, "y1": 1, "line": style}


def _rows(launch: Launch, edges: Array) -> Iterator[tuple[str, Shares]]:
    """Name of each row, and how its ranks share each piece of time out."""
    yield (
        f"0: {_role(launch, 0)}",
        {
            activity: _shares(launch, RANK_0, activity, edges, backwards=False)
            for activity in ACTIVITIES
        },
    )
    others = range(1, len(launch.roles))
    groups: list[list[int]] = [[rank] for rank in others]
    if len(groups) >= _MOST_ROWS:
        by_role: dict[str, list[int]] = {}
        for rank in others:
            by_role.setdefault(launch.roles[rank], []).append(rank)
        groups = list(by_role.values())
    for ranks in groups:
        name = f"{ranks[0]}" if len(ranks) == 1 else f"{ranks[0]}–{ranks[-1]} ({len(ranks)})"
        yield (
            f"{name}: {_role(launch, ranks[0])}",
            {
                kind: np.mean(
                    [_shares(launch, kind, str(rank), edges, backwards=True) for rank in ranks],
                    axis=0,
                )
                for kind in ("labels", TRAINING)
            },
        )


def _role(launch: Launch, rank: int) -> str:
    role = launch.roles[rank] if rank < len(launch.roles) else ""
    return role if len(role) <= 28 else role[:27] + "…"


def _shares(launch: Launch, kind: str, name: str, edges: Array, *, backwards: bool) -> Array:
    """Share of each piece of time that went to something.

    Backwards: what took long is counted when it is finished, and was begun before.
    """
    at = [0.0, *(look.at_s for look in launch.looks)]
    seconds = [0.0, *(look.busy.get(kind, {}).get(name, 0.0) for look in launch.looks)]
    if backwards:
        for k in range(len(at) - 1, 0, -1):
            # No more can have been done since the look before than time has passed.
            seconds[k - 1] = max(seconds[k - 1], seconds[k] - (at[k] - at[k - 1]))
    done = np.interp(edges, at, seconds)
    found: Array = np.clip(np.diff(done) / np.maximum(np.diff(edges), 1e-9), 0.0, 1.0)
    return found


def _draw(traces: dict[str, Trace], row: int, shares: Shares, edges: Array) -> None:
    """Add bars: over each piece of time the activities on top of each other, by their shares."""
    # From the bottom of the row, which is _HEIGHT high.
    base = np.full(len(edges) - 1, -row - 0.5 * _HEIGHT)
    # What was done before the record began is counted at its beginning.
    whole = np.maximum(1.0, np.sum(list(shares.values()), axis=0))
    for activity, of_it in shares.items():
        heights = _HEIGHT * of_it / whole
        kind = "labels" if activity == DFT else activity
        trace = traces.setdefault(
            kind,
            {
                "type": "bar",
                "name": _NAMES.get(activity, activity),
                **{key: [] for key in ("x", "y", "base", "width")},
                "marker": {"color": _COLORS[activity], "line": {"width": 0}},
                "hoverinfo": "name",
            },
        )
        seen = np.flatnonzero(of_it > 0.004)
        trace["x"] += (0.5 * (edges[:-1] + edges[1:]))[seen].tolist()
        trace["y"] += heights[seen].tolist()
        trace["base"] += base[seen].tolist()
        trace["width"] += np.diff(edges)[seen].tolist()
        base = base + heights


def _totals(record: RunRecord) -> Iterator[Table]:
    seconds = record.state.seconds if record.state is not None else {}
    total = sum(seconds.values())
    if total > 0:
        yield Table(
            ["rank 0, all launches", "time", "share"],
            [
                [_NAMES.get(name, name), duration(each), f"{100 * each / total:.1f} %"]
                for name, each in _ordered(seconds)
            ],
        )


def _ordered(seconds: dict[str, float]) -> Sequence[tuple[str, float]]:
    return sorted(seconds.items(), key=lambda item: -item[1])
