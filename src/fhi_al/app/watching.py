"""What ``FHI_AL-status`` is asked, looks at and shows; it changes nothing in any folder."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from fhi_al.core.errors import InputError
from fhi_al.report.status_file import NAME, Seen, look_at
from fhi_al.report.status_view import view

HELP_EXAMPLES = """\
examples:
  FHI_AL-status run
  FHI_AL-status runs/* --watch
  FHI_AL-status run --json
"""
# Where FHI_AL-label and FHI_AL-evaluate keep what they are at.
COMMAND_FOLDERS = ("labelled", "evaluation")
CLEAR = "\x1b[H\x1b[2J"
WIDE = 160  # characters, where no terminal says


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.epilog = HELP_EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "folders",
        type=Path,
        nargs="*",
        metavar="DIR",
        help="folders of runs, or folders that hold such (default: the current one)",
    )
    parser.add_argument(
        "--watch", action="store_true", help="show it again and again, until no run goes on"
    )
    parser.add_argument(
        "--interval",
        type=float,
        default=2.0,
        metavar="S",
        help="seconds between two looks (default: 2)",
    )
    parser.add_argument("--json", action="store_true", help="for programs: a list of all runs")


def act(arguments: argparse.Namespace) -> Iterator[str]:
    """Look, once or until no run goes on.

    Raises
    ------
    InputError
        If a folder does not exist.
    """
    if not 0 < arguments.interval < float("inf"):
        raise InputError([f"--interval {arguments.interval:g}: expected a number above 0 (s)."])
    while True:
        runs = _look(arguments.folders or [Path()])
        yield _shown(runs, as_json=arguments.json, again=arguments.watch)
        if not arguments.watch or not any(run.condition == "running" for run in runs):
            return
        time.sleep(arguments.interval)


def _look(folders: Sequence[Path]) -> list[Seen]:
    missing = [folder for folder in folders if not folder.exists()]
    if missing:
        names = ", ".join(map(str, missing))
        raise InputError([f"{names}: no such folder: expected folders of runs. Correct it."])
    now = time.time()
    found: list[Seen] = []
    # A pattern such as runs/* may fit files, too.
    of_runs = [folder for folder in folders if folder.is_dir()]
    for folder in of_runs or folders:
        one, beside = look_at(folder, now), _beside(folder, now)
        if one.condition != "no run":
            found += [one, *beside]
        elif beside:
            found += beside
        else:
            found += _within(folder, now) or [one]
    return found


def _beside(folder: Path, now: float) -> list[Seen]:
    """Commands that label and evaluate in a folder, whether or not a run is there."""
    places = [folder / name for name in COMMAND_FOLDERS]
    return [look_at(place, now) for place in places if (place / NAME).exists()]


def _within(folder: Path, now: float) -> list[Seen]:
    """Runs and commands in the folders of a folder that has none."""
    if not folder.is_dir():
        return []
    found: list[Seen] = []
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        found += [look_at(inner, now)] if (inner / NAME).exists() else []
        found += _beside(inner, now)
    return found


def _shown(runs: Sequence[Seen], *, as_json: bool, again: bool) -> str:
    if as_json:
        return json.dumps([run.as_json() for run in runs])
    is_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if is_terminal else WIDE
    text = view(runs, time.time(), width=width, colors=is_terminal)
    return f"{CLEAR}{text}" if again and is_terminal else text
