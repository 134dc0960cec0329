"""A run as the files of a snapshot, and back.  JSON, npz and state dicts; nothing is unpickled."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fhi_al.active_learning.restart import RUN, plain
from fhi_al.active_learning.saved_state import run_state, with_lists_as_tuples
from fhi_al.core.convergence import ConvergenceStage
from fhi_al.core.run_state import RunState
from fhi_al.core.structure import Array, Structure
from fhi_al.md.live_trajectory import LiveTrajectory
from fhi_al.models.state_bytes import packed, unpacked

PHASE_SPACE = "phase_space.npz"
BEST = "best_{stage}_{index}.pt"


@dataclass(frozen=True)
class SavedInputs:
    """What a run was started with, for a later launch to compare its own with.

    Parameters
    ----------
    systems : sequence of Structure
    names : sequence of str
        Of the systems.
    settings : dict
        Dotted key -> value.
    threads : int
        Of each rank that trains; the last bits depend on it.
    """

    systems: Sequence[Structure]
    names: Sequence[str]
    settings: Mapping[str, Any]
    threads: int


@dataclass(frozen=True)
class MemberSets:
    """Keys of the labels in the sets of one member, in order."""

    training: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Saved:
    """Everything that influences what a run does next.

    Parameters
    ----------
    state : RunState
    live : sequence of LiveTrajectory
        The trajectories of the stage under way.
    sets : sequence of MemberSets
        One per member.
    member_states : mapping
        Files of the members' training states, by name.
    best_weights : mapping
        Stage of the convergence under way, and member -> its best weights of that stage.
    journal_bytes : int
        Length of the journal at the time.
    """

    state: RunState
    live: Sequence[LiveTrajectory]
    sets: Sequence[MemberSets]
    member_states: Mapping[str, bytes]
    best_weights: Mapping[tuple[ConvergenceStage, int], dict[str, Any]]
    journal_bytes: int


def pack(saved: Saved, inputs: SavedInputs) -> dict[str, bytes]:
    """The files of a snapshot, by name."""
    arrays: dict[str, Array] = {}
    for index, trajectory in enumerate(saved.live):
        arrays |= trajectory.arrays(str(index))
    phase_space = io.BytesIO()
    np.savez(phase_space, **arrays)  # type: ignore[arg-type]
    content: dict[str, Any] = {
        "state": asdict(saved.state),
        "random_states": [trajectory.random_state() for trajectory in saved.live],
        "sets": [asdict(sets) for sets in saved.sets],
        "systems": [plain(system) for system in inputs.systems],
        "system_names": list(inputs.names),
        "journal_bytes": saved.journal_bytes,
        "settings": inputs.settings,
        "threads": inputs.threads,
    }
    best = {
        BEST.format(stage=stage, index=index): packed(weights)
        for (stage, index), weights in saved.best_weights.items()
    }
    return {
        RUN: json.dumps(content, indent=1).encode(),
        PHASE_SPACE: phase_space.getvalue(),
        **saved.member_states,
        **best,
    }


def unpack(files: Mapping[str, bytes]) -> Saved:
    """What :func:`pack` made the files from.

    Raises
    ------
    ValueError, KeyError
        If the files are not those of a snapshot of this version.
    """
    content = json.loads(files[RUN])
    with np.load(io.BytesIO(files[PHASE_SPACE]), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    sets = [MemberSets(**with_lists_as_tuples(each)) for each in content["sets"]]
    best = {
        (stage, index): BEST.format(stage=stage, index=index)
        for stage in ConvergenceStage
        for index in range(len(sets))
    }
    return Saved(
        state=run_state(content),
        live=[
            LiveTrajectory.from_arrays(str(index), arrays, random_state)
            for index, random_state in enumerate(content["random_states"])
        ],
        sets=sets,
        member_states={
            name: file
            for name, file in files.items()
            if name not in (RUN, PHASE_SPACE, *best.values())
        },
        best_weights={
            whose: unpacked(files[name]) for whose, name in best.items() if name in files
        },
        journal_bytes=content["journal_bytes"],
    )
