"""Snapshots of earlier versions of the state, made into those of the present one, step by step.

One function for each version, which is never changed afterwards: a run that was begun with an old
program goes on with a new one.  A snapshot of every old version is kept among the tests.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from fhi_al.checkpoint import STATE_VERSION, Snapshot

Files = Mapping[str, bytes]


def upgraded(snapshot: Snapshot) -> Files:
    """The files of a snapshot as the present version would have written them."""
    files: Files = snapshot.files
    for version in range(snapshot.version, STATE_VERSION):
        files = _UPGRADES[version](files)
    return files


def _from_1(files: Files) -> Files:
    """Version 1 was written between rounds and sweeps only and knew no failures in a row."""
    content: dict[str, Any] = json.loads(files["run.json"])
    state = content["state"]
    state["sampling"] |= {"points": [], "setbacks_in_row": 0}
    if state["active"] is not None:
        state["active"] |= {"stage": "move", "asked": [], "next_visit": 0}
        for trajectory in state["active"]["trajectories"]:
            trajectory["setbacks_in_row"] = 0
    state |= {"label_failures_in_row": 0, "training_failures_in_row": []}
    # It did not say which geometry.in it was made from: nothing to compare with.
    content["systems"] = None
    return {**files, "run.json": json.dumps(content).encode()}


_UPGRADES: dict[int, Callable[[Files], Files]] = {1: _from_1}
