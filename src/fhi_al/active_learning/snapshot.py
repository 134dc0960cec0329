"""A run as the files of a snapshot, and back.  JSON, npz and state dicts; nothing is unpickled."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter

from fhi_al.active_learning.restart import RUN, plain
from fhi_al.core.run_state import RunState
from fhi_al.core.structure import Array
from fhi_al.md.walker import Walker
from fhi_al.models.state_bytes import packed, unpacked

if TYPE_CHECKING:
    from fhi_al.active_learning.run import Run

log = logging.getLogger(__name__)

PHASE_SPACE = "phase_space.npz"
BEST = "best_{index}.pt"

_STATE = TypeAdapter(RunState)


def pack(run: Run) -> dict[str, bytes]:
    """Everything that influences what the run does next, by file name."""
    arrays: dict[str, Array] = {}
    for index, walker in enumerate(run.walkers):
        arrays |= walker.arrays(str(index))
    phase_space = io.BytesIO()
    np.savez(phase_space, **arrays)  # type: ignore[arg-type]
    content: dict[str, Any] = {
        "state": asdict(run.state),
        "random_states": [walker.random_state() for walker in run.walkers],
        "sets": [
            {
                "training": [label.key for label in member.training],
                "validation": [label.key for label in member.validation],
            }
            for member in run.ensemble.members
        ],
        "systems": [plain(system) for system in run.systems],
        "journal_bytes": run.journal.length(),
        "settings": run.settings.values(),
        "threads": run.threads,
    }
    best = {BEST.format(index=i): packed(weights) for i, weights in run.best_weights.items()}
    return {
        RUN: json.dumps(content, indent=1).encode(),
        PHASE_SPACE: phase_space.getvalue(),
        **(run.background.states if run.background else run.ensemble.state_bytes()),
        **best,
    }


def unpack(run: Run, files: Mapping[str, bytes]) -> None:
    """Put a run back where :func:`pack` left it.

    Raises
    ------
    LabelStoreError
        If a label of the sets is not in the store.
    ValueError
        If the settings do not fit the weights.
    """
    content = json.loads(files[RUN])
    run.state = _STATE.validate_python(_with_lists_as_tuples(content["state"]))
    with np.load(io.BytesIO(files[PHASE_SPACE]), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    run.walkers = [
        Walker.from_arrays(str(index), arrays, random_state)
        for index, random_state in enumerate(content["random_states"])
    ]
    for member, sets in zip(run.ensemble.members, content["sets"], strict=True):
        member.add_training([run.store.label(key) for key in sets["training"]])
        member.add_validation([run.store.label(key) for key in sets["validation"]])
    run.ensemble.load_state_bytes(files)
    run.best_weights = {
        index: unpacked(files[BEST.format(index=index)])
        for index in range(len(run.ensemble.members))
        if BEST.format(index=index) in files
    }
    run.labels.gate.failures_in_row = run.state.label_failures_in_row
    run.order.count = run.state.events
    if content["settings"]["TRAINING.lr"] != run.settings.values()["TRAINING.lr"]:
        _with_new_learning_rate(run)
    run.journal.cut(content["journal_bytes"])


def _with_new_learning_rate(run: Run) -> None:
    # The saved optimizers hold the old one; whoever changes it wants another course anyway.
    for member in run.ensemble.members:
        member.fresh_optimizer(scheduler=member.has_scheduler)
    run.state = replace(run.state, training_failures_in_row=())
    log.info("TRAINING.lr was changed: every member's optimizer starts afresh")


def _with_lists_as_tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_with_lists_as_tuples(element) for element in value)
    if isinstance(value, dict):
        return {key: _with_lists_as_tuples(element) for key, element in value.items()}
    return value
