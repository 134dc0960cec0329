"""Progress bars: what is drawn, and log lines that stay whole above them."""

from __future__ import annotations

import io
import logging
import re
from contextlib import redirect_stdout
from dataclasses import replace

from fhi_al.report.logs import terminal_log, terminal_log_through
from fhi_al.report.status import Bar, Status
from fhi_al.report.terminal_bars import TerminalBars

STATUS = Status(
    "active learning",
    "training",
    (Bar("labels", 43, 60), Bar("epochs", 310)),
    {"computed": 43},
    0.0388,
    0.02,
    time_left_s=125.0,
)
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def test_bars_are_drawn_and_taken_away() -> None:
    screen = io.StringIO()
    bars = TerminalBars(screen)
    bars.show(STATUS)
    drawn = ESCAPES.sub("", screen.getvalue())
    assert "active learning: training" in drawn and "at most 2 min 05 s left" in drawn
    assert re.search(r"labels +━+.* 43 of 60", drawn)
    assert re.search(r"epochs .* 310", drawn)
    # What rank 0 does changes all the time: its line stays where it is.
    bars.show(replace(STATUS, activity="MD"))
    last = ESCAPES.sub("", screen.getvalue()).rpartition("active learning: MD")[2]
    assert last.index("labels") < last.index("epochs")
    bars.show(Status("final test", "DFT", (Bar("labels of the test", 1, 6),), {}, None, 0.0))
    bars.end(STATUS, "finished", "")
    # The cursor is never left hidden.
    text = screen.getvalue()
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_a_log_line_is_written_as_it_is_above_them() -> None:
    screen = io.StringIO()
    line = "[bold]labels[/bold] 12:30 :smile: " + "x" * 300
    log = logging.getLogger("fhi_al.test")
    with redirect_stdout(screen), terminal_log("INFO"):
        bars = TerminalBars(screen)
        bars.show(STATUS)
        with terminal_log_through(bars.write):
            log.info(line)
        bars.end(STATUS, "finished", "")
        log.info("after")
    text = screen.getvalue()
    assert f"{line}\n" in ESCAPES.sub("", text)
    assert ESCAPES.search(text[text.index("after") :]) is None
