"""Progress bars at the bottom of a terminal; log lines go above.  Owns the last lines there."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn
from rich.progress_bar import ProgressBar
from rich.text import Text

from fhi_al.report.status import Bar, Status
from fhi_al.report.status_file import Outcome, duration

INTERVAL_S = 0.5
HEAD = ""


class TerminalBars:
    """Shows how far a run has come.

    Parameters
    ----------
    stream : TextIO
        The terminal.

    Attributes
    ----------
    interval_s : float
    """

    interval_s = INTERVAL_S

    def __init__(self, stream: TextIO) -> None:
        # A log line stays as it is: no colours of words, no line breaks.
        self._console = Console(file=stream, force_terminal=True, highlight=False, soft_wrap=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            _Bar(bar_width=24),
            TextColumn("{task.fields[numbers]}"),
            console=self._console,
            # Ours is the thread that draws; and the process's streams stay as they are.
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._progress.start()
        # A killed run must not leave the terminal without a cursor.
        self._console.show_cursor(True)

    def write(self, text: str) -> None:
        """Write lines above the bars."""
        self._console.print(text, end="", markup=False, emoji=False)

    def show(self, status: Status) -> None:
        """Draw."""
        head = status.stage
        if status.activity != status.stage:
            head += f": {status.activity}"
        # The head keeps its line, whatever it says.
        lines: dict[str, Bar | None] = {HEAD: None}
        lines |= {bar.name: bar for bar in status.bars}
        for name in [name for name in self._tasks if name not in lines]:
            self._progress.remove_task(self._tasks.pop(name))
        for name, bar in lines.items():
            numbers = _left(status) if bar is None else _numbers(bar)
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=None, numbers=numbers)
            self._progress.update(
                self._tasks[name],
                description=head if bar is None else name,
                completed=0 if bar is None else bar.done,
                total=None if bar is None else bar.total,
                numbers=numbers,
            )
        self._progress.refresh()

    def end(self, status: Status, outcome: Outcome, message: str) -> None:
        """Take the bars away: the log has everything."""
        self._progress.stop()


class _Bar(BarColumn):
    """A bar where something is known to end; nothing elsewhere."""

    def render(self, task: Task) -> ProgressBar | Text:  # type: ignore[override]
        return Text() if task.total is None else super().render(task)


def _numbers(bar: Bar) -> str:
    return str(bar.done) if bar.total is None else f"{bar.done} of {bar.total}"


def _left(status: Status) -> str:
    if status.time_left_s is None:
        return ""
    return f"at most {duration(status.time_left_s)} left"
