"""What is shown of runs that are looked at: one in words, several in a table."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

from fhi_al.report.status_file import Seen, duration

BAR_WIDTH = 24
COLORS = {"running": "cyan", "finished": "green", "killed": "red", "failed": "red"}
PHASES = {
    "initial": "initial dataset",
    "active_learning": "active learning",
    "sanity": "sanity checks",
    "test": "final test",
}


def view(runs: Sequence[Seen], now: float, *, width: int, colors: bool) -> str:
    """One run in words, with what goes on beside it in its folder; several in a table.

    Parameters
    ----------
    runs : sequence of Seen
    now : float
        Seconds since the epoch.
    width : int
        Characters of a line.
    colors : bool
        Whether a terminal shows it.
    """
    # Of one folder: what goes on beside its run belongs to it.
    if all(run.folder.parent == runs[0].folder for run in runs[1:]):
        return "\n".join(line for run in runs for line in _lines(run, now))
    return _table(runs, now, width, colors)


def _lines(run: Seen, now: float) -> Iterator[str]:
    content = run.content
    if not content:
        yield f"{run.folder}: {run.condition}: {run.message}"
        return
    yield f"{run.folder}: {content['name']}, {content['stage']}: {run.condition}"
    if run.message:
        yield f"  {run.message}"
    yield from (f"  {_bar(bar)}" for bar in content["bars"])
    if _trains(content) or content["labels"]["computed"]:
        yield f"  {_labels(content['labels'])}"
    if _trains(content):
        yield f"  {_errors(content)}"
    for each in content["ranks"]:
        several = "s" if not str(each["ranks"]).isdigit() else ""
        busy = f"busy {100 * each['busy']:.0f} %"
        yield f"  rank{several} {each['ranks']} on {each['host']}: {each['does']}; {busy}"
    if run.condition == "running":
        yield f"  now: {content['activity']}"
        of_stage = " of this stage" if content.get("of_stage") else ""
        yield f"  time left{of_stage}: {_left(run)}"
    yield (
        f"  {content['command']} began {duration(now - content['started'])} ago on"
        f" {content['host']}, process {content['pid']}; last written"
        f" {duration(max(0.0, now - content['written']))} ago"
    )


def _trains(content: dict[str, Any]) -> bool:
    """Whether it is of a run: of one from an older version, nothing says so."""
    return bool(content.get("trains", True))


def _bar(bar: dict[str, Any]) -> str:
    done, total = bar["done"], bar["total"]
    if not total:
        return f"{bar['name']:<20} {done}"
    share = min(1.0, done / total)
    filled = round(BAR_WIDTH * share)
    drawn = "#" * filled + "-" * (BAR_WIDTH - filled)
    return f"{bar['name']:<20} [{drawn}] {done} of {total} ({100 * share:.0f} %)"


def _labels(labels: dict[str, int]) -> str:
    of_phases = [f"{name} {labels[key]}" for key, name in PHASES.items() if labels.get(key)]
    text = f"labels: {labels['computed']} computed"
    if of_phases:
        text += f" ({', '.join(of_phases)})"
    more = {"discarded": "discarded", "imported": "from files", "waiting": "waiting"}
    return text + "".join(f", {labels[key]} {word}" for key, word in more.items() if labels[key])


def _errors(content: dict[str, Any]) -> str:
    text = f"force MAE on validation: {_mev(content['force_mae'])}"
    if content["target_force_mae"]:
        text += f", target {_mev(content['target_force_mae'])}"
    if content["true_force_mae"] is not None:
        text += f"; true one in the models' own MD: {_mev(content['true_force_mae'])}"
    return text


def _mev(value: float | None) -> str:
    return "not measured yet" if value is None else f"{1000 * value:.1f} meV/A"


def _left(run: Seen) -> str:
    left = run.content["time_left_s"]
    return "not known yet" if left is None else f"at most {duration(left)}"


def _table(runs: Sequence[Seen], now: float, width: int, colors: bool) -> str:
    # Late: a run that shows nothing does without it.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in ("folder", "state", "stage", "progress", "labels", "force MAE", "began", "left"):
        table.add_column(name, overflow="fold")
    for run in runs:
        state = Text(run.condition, style=COLORS.get(run.condition, "") if colors else "")
        table.add_row(str(run.folder), state, *_cells(run, now))
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=colors, highlight=False)
    console.print(table)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def _cells(run: Seen, now: float) -> list[str]:
    content = run.content
    if not content:
        return [run.message, "", "", "", "", ""]
    budget = next((bar["total"] for bar in content["bars"] if bar["name"] == "labels"), None)
    n_labels = str(content["labels"]["computed"])
    return [
        content["stage"],
        _progress(content["bars"]),
        f"{n_labels} of {budget}" if budget else n_labels,
        _mev(content["force_mae"]) if content["force_mae"] is not None else "",
        f"{duration(now - content['started'])} ago",
        _left(run) if run.condition == "running" else "",
    ]


def _progress(bars: Sequence[dict[str, Any]]) -> str:
    """Of what ends the stage first."""
    known = [bar for bar in bars if bar["total"] and bar["ends_stage"]]
    if not known:
        return ""
    share, bar = max(((bar["done"] / bar["total"], bar) for bar in known), key=lambda pair: pair[0])
    return f"{100 * min(1.0, share):.0f} % of {bar['name']}"
