"""Read the folder of a run for its report: finished, running or killed.  Changes nothing there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fhi_al.active_learning.restart import saved_run
from fhi_al.active_learning.saved_state import run_state
from fhi_al.core.errors import InputError
from fhi_al.core.run_state import RunState
from fhi_al.report.activity import ACTIVITY, REPORT_FOLDER, read_activity
from fhi_al.report.predictions import predictions_path, read_predictions
from fhi_al.report.record import RunRecord, read_events, read_labels
from fhi_al.storage.checkpoint import SnapshotError

# Of a file of the inputs that the report shows.
_MOST_TEXT = 20_000


def run_record(folder: Path) -> RunRecord:
    """What the folder of a run holds.

    Raises
    ------
    InputError
        If it is no run's folder, or nothing has run there.
    """
    restart = folder / "restart"
    labels, damaged_labels = read_labels(restart / "labels.jsonl")
    events, damaged_entries = read_events(restart / "journal.jsonl")
    notes: list[str] = []
    content = _snapshot(restart, notes)
    if content is None and not labels and not events.entries:
        raise InputError([_why_not(folder, notes)])
    if damaged_labels:
        notes.append(f"restart/labels.jsonl: {damaged_labels} damaged lines are left out")
    if damaged_entries:
        notes.append(f"restart/journal.jsonl: {damaged_entries} damaged lines are left out")
    content = content or {}
    kept = folder / REPORT_FOLDER
    predictions = {
        phase: found
        for phase in ("initial", "final")
        if (found := read_predictions(predictions_path(kept, phase))) is not None
    }
    return RunRecord(
        folder=folder,
        state=_state(content, notes),
        settings=content.get("settings") or {},
        names=tuple(content.get("system_names") or ("",)),
        sets=[(each["training"], each["validation"]) for each in content.get("sets") or ()],
        labels=labels,
        events=events,
        launches=read_activity(kept / ACTIVITY),
        predictions=predictions,
        versions=dict(_versions(folder / "inputs" / "versions.yaml")),
        inputs=list(_inputs(folder)),
        last_sign=_last_sign(restart),
        notes=notes,
    )


def _why_not(folder: Path, notes: list[str]) -> str:
    if notes:
        return f"{folder}: {'; '.join(notes)}"
    if folder.is_file():
        return f"{folder}: is a file: expected the folder of a run"
    if not folder.is_dir():
        return f"{folder}: there is no such folder: expected the folder of a run"
    if (folder / "active_learning_settings.yaml").is_file():
        return (
            f"{folder}: nothing has run here yet: expected labels or a snapshot in restart/. "
            f"Start the run first (FHI_AL --workdir {folder})"
        )
    return (
        f"{folder}: not the folder of a run: expected restart/ with labels.jsonl, journal.jsonl or "
        "a snapshot. Give the folder in which FHI_AL was started"
    )


def _snapshot(restart: Path, notes: list[str]) -> dict[str, Any] | None:
    """The newest snapshot's ``run.json``."""
    for attempt in range(3):
        try:
            files = saved_run(restart)
            return None if files is None else json.loads(files["run.json"])
        except (SnapshotError, ValueError, KeyError, OSError) as error:
            # A run that is going on may have dropped the snapshot that was being read.
            if attempt == 2:
                notes.append(f"the snapshots could not be read ({error})")
    return None


def _state(content: dict[str, Any], notes: list[str]) -> RunState | None:
    try:
        return run_state(content) if content else None
    except (ValueError, KeyError) as error:
        first = str(error).splitlines()[0]
        notes.append(f"the newest snapshot does not say where the run stands ({first})")
        return None


def _versions(path: Path) -> Iterator[tuple[str, str]]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        package, _, version = line.partition(": ")
        if version:
            yield package, version


def _inputs(folder: Path) -> Iterator[tuple[str, str]]:
    copies = folder / "inputs"
    for path in sorted(copies.rglob("*")):
        name = path.relative_to(copies).as_posix()
        ours = name == "versions.yaml" or name.startswith("resolved_")
        if ours or path.name.startswith(".") or not path.is_file():
            continue
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        cut = f"\n... ({len(text)} characters in all)" if len(text) > _MOST_TEXT else ""
        yield name, text[:_MOST_TEXT] + cut


def _last_sign(restart: Path) -> float | None:
    times = []
    for path in (*restart.glob("*.jsonl"), *restart.glob("snapshot-*")):
        try:
            times.append(path.stat().st_mtime)
        except OSError:
            continue
    return max(times, default=None)
