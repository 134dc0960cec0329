"""``status.json`` of a run's folder: what the run is at, and whether it is still there.

Written by rank 0 every few seconds, read by whoever watches.  No part of the run's state: nothing
is lost with it, and no run reads it.
"""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from fhi_al.report.status import Status
from fhi_al.storage.atomic_file import replace_in_one_step

NAME = "status.json"
FORMAT = 1
# On another host a run counts as dead after so many seconds without a sign of life: its clock may
# be another one, and file systems of clusters show a file late.
SILENT_S = 180.0

Outcome = Literal["running", "finished", "stopped", "failed"]
Condition = Literal["running", "finished", "stopped", "failed", "killed", "no run", "unknown"]


@dataclass(frozen=True)
class Launch:
    """The launch that a status is of.

    Parameters
    ----------
    command : str
    name : str
        ``GENERAL.name_exp``.
    n_ranks : int
    started : float
        Seconds since the epoch.
    """

    command: str
    name: str
    n_ranks: int
    started: float

    def as_json(self) -> dict[str, Any]:
        """As JSON has it, with host and process of rank 0."""
        pid = os.getpid()
        return {
            "command": self.command,
            "name": self.name,
            "version": version("fhi-al"),
            "host": socket.gethostname(),
            "pid": pid,
            "process_start": process_start(pid),
            "n_ranks": self.n_ranks,
            "started": self.started,
        }


@dataclass(frozen=True)
class StatusFile:
    """Writes the status of a launch.

    Parameters
    ----------
    folder : Path
        The run's.
    launch : Launch
    """

    folder: Path
    launch: Launch

    def write(self, status: Status, outcome: Outcome, message: str = "") -> None:
        """Replace the file.

        Raises
        ------
        OSError
            If that fails; the old one is still there.
        """
        content = {
            "format": FORMAT,
            "state": outcome,
            "message": message,
            "written": time.time(),
            **self.launch.as_json(),
            **status.as_json(),
        }
        replace_in_one_step(self.folder / NAME, json.dumps(content, indent=1) + "\n")


@dataclass(frozen=True)
class Seen:
    """What is to be seen of a folder.

    Parameters
    ----------
    folder : Path
    condition : str
    content : dict
        Of status.json; empty where there is none that can be read.
    message : str
        Why, in words.
    """

    folder: Path
    condition: Condition
    content: dict[str, Any]
    message: str = ""

    def as_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            **self.content,
            "folder": str(self.folder),
            "condition": self.condition,
            "message": self.message,
        }


def look_at(folder: Path, now: float) -> Seen:
    """Look at the run in a folder, whatever there is.

    Parameters
    ----------
    folder : Path
    now : float
        Seconds since the epoch.
    """
    if not folder.is_dir():
        return Seen(folder, "no run", {}, "a file" if folder.exists() else "no such folder")
    path = folder / NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError("no status of FHI_AL, or of another version")
        return _judged(folder, content, now)
    except FileNotFoundError:
        return _without_status(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Seen(folder, "unknown", {}, f"{NAME} cannot be read ({error})")


def _without_status(folder: Path) -> Seen:
    restart = folder / "restart"
    if any((restart / name).exists() for name in ("lock", "labels.jsonl")):
        message = f"a run without {NAME}: begun by an older version, or not past its start"
        return Seen(folder, "unknown", {}, message)
    if (folder / "active_learning_settings.yaml").exists():
        return Seen(folder, "no run", {}, "not begun")
    return Seen(folder, "no run", {}, "no folder of FHI_AL")


def _judged(folder: Path, content: dict[str, Any], now: float) -> Seen:
    outcome, message = content["state"], str(content["message"])
    if outcome != "running":
        return Seen(folder, outcome, content, message)
    silent_s = max(0.0, now - float(content["written"]))
    if content["host"] == socket.gethostname():
        pid = int(content["pid"])
        if process_start(pid) == content["process_start"] is not None:
            return Seen(folder, "running", content, message)
        return Seen(
            folder, "killed", content, f"process {pid} is gone; last written {_ago(silent_s)}"
        )
    if silent_s <= SILENT_S:
        return Seen(folder, "running", content, message)
    where = f"on {content['host']}"
    return Seen(
        folder, "killed", content, f"no sign of life {where}; last written {_ago(silent_s)}"
    )


def _ago(seconds: float) -> str:
    return f"{duration(seconds)} ago"


def duration(seconds: float) -> str:
    """Such as 2 h 05 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def process_start(pid: int) -> int | None:
    """When a process of this host began, in its own units; None if there is none.

    Numbers of processes are used again: together with this one it is known.
    """
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if words[0] in "ZX" else int(words[19])
