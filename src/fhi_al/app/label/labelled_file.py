"""Compute the structures of a file that have no result yet, and write all of them with labels."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from fhi_al.active_learning.imported_frames import MOST_SHOWN
from fhi_al.app.label.structure_systems import frames_of
from fhi_al.core.errors import EngineError, InputError
from fhi_al.labels.records import Record, Rejected
from fhi_al.labels.serial_queue import LabelQueue
from fhi_al.labels.store import LabelStore
from fhi_al.labels.structure_file import FileStructure, write_labelled
from fhi_al.labels.validation import LabelRequest
from fhi_al.labels.xyz import FAILURE
from fhi_al.process.soft_stop import SoftStop
from fhi_al.report.command_status import CommandProgress
from fhi_al.report.pulse import Pulse
from fhi_al.report.status import Bar
from fhi_al.storage.atomic_file import write_atomically

log = logging.getLogger(__name__)

OUTPUTS = "outputs.json"
STRUCTURES = "structures"


def compute_missing(
    requests: Sequence[LabelRequest],
    queue: LabelQueue,
    soft_stop: SoftStop,
    most_waiting: int,
    progress: CommandProgress,
) -> None:
    """Compute structures that the store has no result of, each once.

    Parameters
    ----------
    requests : sequence of LabelRequest
        In the order of the work; the same structure may be there twice.
    queue : LabelQueue
    soft_stop : SoftStop
    most_waiting : int
        Structures that are in the queue at a time.
    progress : CommandProgress
        Is told how many have a result.

    Raises
    ------
    Stopped
        If asked to stop; what has been computed is in the store.
    TooManyFailures, EngineError
        As the queue.
    """
    store = queue.validator.store
    every = {request.key: request for request in reversed(requests)}
    left = deque(every[key] for key in dict.fromkeys(r.key for r in requests) if key not in store)
    n_done, n_waiting, pulse = len(every) - len(left), 0, Pulse()
    log.info("%d of %d different structures have a result already", n_done, len(every))
    progress.begin("labels", Bar(STRUCTURES, n_done, len(every)), is_last=True)
    while left or n_waiting:
        soft_stop.check()
        while left and n_waiting < most_waiting:
            queue.submit(left.popleft())
            n_waiting += 1
        outcomes = queue.poll(wait=True)
        n_waiting -= len(outcomes)
        n_done += len(outcomes)
        progress.reach(STRUCTURES, n_done)
        if pulse.is_due():
            log.info("%d of %d different structures have a result", n_done, len(every))


def write_output(
    output: Path,
    structures: Sequence[FileStructure],
    requests: Sequence[LabelRequest],
    store: LabelStore,
    *,
    stress: bool,
) -> None:
    """Write structures with their labels, in the order of their file.

    Raises
    ------
    EngineError
        Afterwards, if some have none.
    """
    records: list[Record] = []
    for request in requests:
        record = store.get(request.key)
        assert record is not None
        records.append(record)
    write_labelled(output, structures, records, stress=stress)
    failures: dict[str, list[int]] = {}
    for structure, record in zip(structures, records, strict=True):
        if isinstance(record, Rejected):
            failures.setdefault(record.reason, []).append(structure.number)
    n_failed = sum(map(len, failures.values()))
    log.info("%s: %d labels, %d failures", output, len(records) - n_failed, n_failed)
    for reason, frames in failures.items():
        log.warning("%s: %s: %s", structures[0].path, frames_of(frames), reason)
    if failures:
        shown = [f"{frames_of(frames)}: {reason}" for reason, frames in failures.items()]
        more = f" ({len(shown) - MOST_SHOWN} more reasons)" if len(shown) > MOST_SHOWN else ""
        raise EngineError(
            f"{n_failed} of {len(records)} structures of {structures[0].path} have no label"
            f" ({'; '.join(shown[:MOST_SHOWN])}{more}): expected calculations that converge. All"
            f" are in {output}, these with the reason under {FAILURE}. Correct the engine's"
            " settings, or compute them again as they are with --retry."
        )


def require_free(output: Path, file: Path, state: Path) -> None:
    """Return if an output overwrites nothing but what an earlier launch made of the same file.

    Raises
    ------
    InputError
        If it does.
    """
    if output == file:
        raise InputError([f"{file}: would be overwritten: expected another output. Give -o FILE."])
    if output.exists() and _outputs(state).get(str(output)) != str(file):
        raise InputError(
            [
                f"{output}: is there, and is not what this command made of {file}: expected a new"
                " file. Give -o FILE, or remove it."
            ]
        )


def remember(output: Path, file: Path, state: Path) -> None:
    """Write down what an output is made of."""
    known = _outputs(state) | {str(output): str(file)}
    write_atomically(state / OUTPUTS, json.dumps(known, indent=2) + "\n")


def _outputs(state: Path) -> dict[str, str]:
    try:
        content = json.loads((state / OUTPUTS).read_text())
        return {str(output): str(file) for output, file in content.items()}
    except (OSError, ValueError, AttributeError):
        return {}
