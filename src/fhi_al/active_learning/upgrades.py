"""Snapshots of earlier versions of the state, made into those of the present one, step by step.

One function for each version, which is never changed afterwards: a run that was begun with an old
program goes on with a new one.  A snapshot of every old version is kept among the tests.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from fhi_al.core.run_state import Frame, RunState
from fhi_al.core.structure import geometry_key
from fhi_al.labels.records import Record
from fhi_al.storage.checkpoint import STATE_VERSION, Snapshot

Files = Mapping[str, bytes]


def upgraded(snapshot: Snapshot, to_version: int = STATE_VERSION) -> Files:
    """The files of a snapshot as a later version, usually the present one, would write them."""
    files: Files = snapshot.files
    for version in range(snapshot.version, to_version):
        files = _UPGRADES[version](files)
    return files


def given_by_older_program(state: RunState, records: Iterable[Record]) -> tuple[str, ...]:
    """What a run had been given before that was kept: all that is computed but what it waits for.

    Parameters
    ----------
    state : RunState
    records : iterable of Record
        All in the store.
    """
    waits_for = {
        geometry_key(system, np.array(frame.positions), np.array(frame.cell))
        for system, frame in _pending(state)
    }
    return tuple(
        record.key
        for record in records
        if record.origin.phase != "imported" and record.key not in waits_for
    )


def _pending(state: RunState) -> Iterator[tuple[int, Frame]]:
    """System and structure of each label that is still to come."""
    for point in state.sampling.pending:
        system = point.system
        if point.trajectory is not None:
            system = state.sampling.trajectories[point.trajectory].system
        yield system, point.frame
    for part in (state.active, state.final_test):
        if part is not None:
            for each in part.pending:
                yield part.trajectories[each.trajectory].system, each.frame


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


def _from_2(files: Files) -> Files:
    """In version 2 a label was asked for where the trajectory is: nothing went on meanwhile."""
    content: dict[str, Any] = json.loads(files["run.json"])
    state = content["state"]
    state["sampling"] |= {"asked": [], "epochs_due": 0}
    state["events"] = 0
    active = state["active"]
    if active is not None:
        active |= {"n_withdrawn": 0, "rescored": 0}
        with np.load(io.BytesIO(files["phase_space.npz"]), allow_pickle=False) as points:
            for pending in active["asked"]:
                index = pending["trajectory"]
                pending["epochs"] = active["epochs"]
                pending["frame"] = {
                    "step": active["trajectories"][index]["step"],
                    "positions": points[f"{index}/point/positions"].tolist(),
                    "cell": points[f"{index}/point/cell"].tolist(),
                }
    return {**files, "run.json": json.dumps(content).encode()}


def _from_3(files: Files) -> Files:
    """Version 3 knew no test set, labelled near-duplicates, and kept no pairs to calibrate with."""
    content: dict[str, Any] = json.loads(files["run.json"])
    state = content["state"]
    state |= {"test": [], "test_mae_forces": None}
    active = state["active"]
    if active is not None:
        active |= {"n_test": 0, "n_duplicates": 0}
        active["pairs"] = [{"values": [], "seen": 0, "told": None} for _ in active["uncertainties"]]
    return {**files, "run.json": json.dumps(content).encode()}


def _from_4(files: Files) -> Files:
    """Version 4 had other names for the same things, and the elements' masses for all atoms.

    A convergence had one stage, the force MAE alone said when it ends, and a member's best weights
    were chosen by it.
    """
    content: dict[str, Any] = json.loads(files["run.json"])
    state = content["state"]
    for system in content["systems"] or []:  # None in those of version 1
        system["masses"] = None
    _rename(state["sampling"], asked="pending", **_ROLLBACKS)
    state["sampling"]["helped"] = False
    active = state["active"]
    if active is not None:
        _rename(active, asked="pending", next_visit="next_round")
        for trajectory in active["trajectories"]:
            _rename(trajectory, **_ROLLBACKS)
        for pairs in active["pairs"]:
            _rename(pairs, told="reported")
    state["errors"] = None
    if state["convergence"] is not None:
        state["convergence"] = _convergence_of_4(state["convergence"])
    files = {_best_of_4(name): file for name, file in files.items()}
    settings = content.get("settings", {})
    if "ACTIVE_LEARNING.max_setbacks" in settings:  # not in those of version 1
        value = settings.pop("ACTIVE_LEARNING.max_setbacks")
        settings["ACTIVE_LEARNING.max_rollbacks"] = value
    return {**files, "run.json": json.dumps(content).encode()}


def _from_5(files: Files) -> Files:
    """Version 5 knew no test of the final models, no stress, and one MD block.

    Before it had a key for that, members had points of the initial dataset of their own.  Its
    sampling had a single trajectory.
    """
    content: dict[str, Any] = json.loads(files["run.json"])
    content.setdefault("settings", {}).setdefault("ACTIVE_LEARNING.initial_sets", "own")
    state = content["state"]
    sampling = state["sampling"]
    trajectory = {
        **{"index": 0, "system": 0, "md": 0, "status": "running", "epochs": 0, "last_crossing": 0},
        **{key: sampling.pop(key) for key in ("rollbacks", "rollbacks_in_row")},
        "step": sampling.pop("md_steps"),
    }
    sampling["trajectories"] = [trajectory]
    sampling["n_sampled"] = 0  # of one trajectory it is the turn anyway
    sampling["pending"] = [{"trajectory": 0, "frame": frame} for frame in sampling["pending"]]
    state["final_test"] = None
    if state["errors"] is not None:
        state["errors"]["test"] = None
        for name in ("validation", "unseen"):
            state["errors"][name]["mae_stress"] = None
    if state["convergence"] is not None:
        for stage in state["convergence"]["stages"]:
            for errors in stage["errors"]:
                errors["mae_stress"] = None
    if state["active"] is not None:
        for pending in state["active"]["pending"]:
            pending["stress"] = None
    return {**files, "run.json": json.dumps(content).encode()}


def _from_6(files: Files) -> Files:
    """Version 6 had one system without a name, all of whose trajectories began at geometry.in.

    All points of the initial dataset were of one source, which was MD. It knew no labels
    of the user's that the initial dataset begins with.
    """
    content: dict[str, Any] = json.loads(files["run.json"])
    content.setdefault("settings", {})["ACTIVE_LEARNING.initial_data"] = None
    content["system_names"] = [""] * len(content["systems"] or [None])
    state = content["state"]
    state["initial_data"] = []
    for part in ("sampling", "active", "final_test"):
        for trajectory in (state[part] or {}).get("trajectories", []):
            trajectory["start"] = 0
    sampling = state["sampling"]
    n_sampled = sampling.pop("n_sampled")
    sampling["sampled"] = [n_sampled] if sampling["trajectories"] else []
    sampling["n_displaced"] = 0
    sampling["systems"] = []
    for pending in sampling["pending"]:
        pending |= {"source": "", "system": 0}
    if state["active"] is not None:
        state["active"]["mae_to_reach"] = state["active"]["mae_forces"]
    if state["final_test"] is not None:
        mean = state["final_test"].pop("mean_uncertainty")
        statistics = {"system": 0, "n_candidates": 1, "mean_uncertainty": mean}
        state["final_test"]["met"] = [statistics] if state["final_test"]["has_chosen"] else []
    if state["errors"] is not None and state["errors"]["test"] is not None:
        state["errors"]["test"]["by_system"] = []
    for errors in _unseen_errors(state):
        errors["by_system"] = []
    return {**files, "run.json": json.dumps(content).encode()}


def _from_7(files: Files) -> Files:
    """Version 7 did not keep which labels a run had been given: the label store says it.

    See :func:`given_by_older_program`.  Nor when a trajectory last went back: as before, each label
    that is still to come may send it back.
    """
    content: dict[str, Any] = json.loads(files["run.json"])
    state = content["state"]
    state["given"] = None
    for part in ("sampling", "active", "final_test"):
        for trajectory in (state[part] or {}).get("trajectories", []):
            trajectory["last_rollback"] = 0
    return {**files, "run.json": json.dumps(content).encode()}


def _unseen_errors(state: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    if state["errors"] is not None:
        found += [state["errors"]["validation"], state["errors"]["unseen"]]
    if state["convergence"] is not None:
        found += [errors for stage in state["convergence"]["stages"] for errors in stage["errors"]]
    return found


def _convergence_of_4(before: dict[str, Any]) -> dict[str, Any]:
    epoch = before["ensemble"]["epoch"]
    unknown = {"best": math.inf, "best_epoch": epoch, "epoch": epoch}
    return {
        "members": before["members"],
        "course": {"forces": before["ensemble"], "energies": unknown, "loss": unknown},
        "stages": [{"stage": "first", "errors": []}],
        "compared_at": epoch,
        "diverged": [],
    }


def _best_of_4(name: str) -> str:
    return name.replace("best_", "best_first_") if name.startswith("best_") else name


_ROLLBACKS = {"setbacks": "rollbacks", "setbacks_in_row": "rollbacks_in_row"}


def _rename(content: dict[str, Any], **names: str) -> None:
    for before, now in names.items():
        content[now] = content.pop(before)


_UPGRADES: dict[int, Callable[[Files], Files]] = {
    1: _from_1,
    2: _from_2,
    3: _from_3,
    4: _from_4,
    5: _from_5,
    6: _from_6,
    7: _from_7,
}
