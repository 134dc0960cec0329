"""Compatibility of a snapshot with the inputs: may the run be continued?"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from fhi_al.active_learning.upgrades import Files, upgraded
from fhi_al.core.run_state import DataFile, Stage
from fhi_al.core.structure import Array, Structure
from fhi_al.md.atoms import atoms_of
from fhi_al.storage.checkpoint import SnapshotError, read_snapshot

RUN = "run.json"

Values = Mapping[str, Any]
Changes = Callable[[Values, Values], tuple[list[str], list[str]]]


@dataclass(frozen=True)
class Continuation:
    """A snapshot that the inputs fit.

    Parameters
    ----------
    files : mapping
    stage : Stage
    changes : list of str
        Settings that were changed since, and masses that were, which the run does not follow.
    masses : tuple of (n_atoms,) or None
        Of each system in u, as the run began with them; None for those of the elements.
    has_sampled : bool
        Whether the sampling of the initial dataset has begun, or is one for added systems.
    threads : int or None
        Of each rank that trained; None if the snapshot is of a program that did not say.
    has_new_learning_rate : bool
        Whether ``TRAINING.lr`` is among the changes: saved optimizers hold the old one.
    initial_data : tuple of DataFile
        Of the user, whose labels the run has taken in.
    added : tuple of int
        Systems that are new, by their places: the run begins again for them.
    """

    files: Files
    stage: Stage
    changes: list[str]
    masses: tuple[Array | None, ...]
    has_sampled: bool
    threads: int | None
    has_new_learning_rate: bool
    initial_data: tuple[DataFile, ...] = ()
    added: tuple[int, ...] = ()


def saved_run(restart: Path) -> Files | None:
    """The files of the snapshot in ``restart/``, as of this version; None if there is none.

    Raises
    ------
    SnapshotError
        If there are snapshots and none can be used.
    """
    snapshot = read_snapshot(restart)
    return None if snapshot is None else upgraded(snapshot)


def saved_settings(files: Files) -> Values:
    """The settings of a snapshot's run: dotted key -> value."""
    found: Values = json.loads(files[RUN]).get("settings", {})
    return found


def saved_names(files: Files) -> list[str]:
    """Names of the systems of a snapshot's run, in its order."""
    names: list[str] = json.loads(files[RUN])["system_names"]
    return names


def continuation(
    restart: Path, files: Files, values: Values, systems: Sequence[Structure], changes: Changes
) -> Continuation:
    """What a run with these inputs continues from.

    Parameters
    ----------
    restart : Path
        ``restart/``.
    files : mapping
        From :func:`saved_run`.
    values : mapping
        The settings: dotted key -> value.
    systems : sequence of Structure
        Those of the snapshot first, in its order.
    changes : callable
        (values of the snapshot, values now) -> what was changed that may change, and what else was.

    Raises
    ------
    SnapshotError
        If the inputs are not those of the run.
    """
    content = json.loads(files[RUN])
    # Through JSON, as the snapshot's went: a tuple there is a list here.
    now = json.loads(json.dumps(values))
    allowed, refused = changes(content["settings"], now)
    names, stage = content["system_names"], Stage(content["state"]["stage"])
    refused += _other_systems(content["systems"], systems, names)
    added = tuple(range(len(names), len(systems)))
    if added:
        refused += _not_to_be_added(stage, content["systems"], [systems[k] for k in added])
    if refused:
        raise misfit(restart, f"these inputs were changed: {'; '.join(refused)}")
    masses = _masses(content["systems"], systems)
    return Continuation(
        files,
        Stage.INITIAL_SAMPLING if added else stage,
        [*allowed, *_other_masses(masses, systems)],
        masses,
        _has_sampled(content["state"]),
        content.get("threads"),
        has_new_learning_rate=content["settings"]["TRAINING.lr"] != now["TRAINING.lr"],
        initial_data=tuple(DataFile(**each) for each in content["state"]["initial_data"]),
        added=added,
    )


def _has_sampled(state: dict[str, Any]) -> bool:
    """Of a run that samples for added systems, too, whatever its first points were."""
    sampling = state["sampling"]
    moved = any(each["step"] > 0 for each in sampling["trajectories"])
    return moved or any(sampling["sampled"]) or state["active"] is not None


def misfit(restart: Path, why: str) -> SnapshotError:
    """The error that says that a snapshot does not fit the inputs."""
    return SnapshotError(
        f"{restart}: the snapshot does not fit the inputs: {why}. Put them back as they were "
        "(inputs/ has a copy), or start in a new folder."
    )


def plain(system: Structure) -> dict[str, Any]:
    """A structure as lists and numbers."""
    return {each.name: np.asarray(getattr(system, each.name)).tolist() for each in fields(system)}


def _other_systems(
    before: list[dict[str, Any]] | None, systems: Sequence[Structure], saved: Sequence[str]
) -> list[str]:
    message = []
    for then, system, called in zip(before or [], systems, saved, strict=False):
        now = plain(replace(system, masses=None))
        then = {**then, "masses": None}  # the run keeps its own
        names = [name.replace("_", " ") for name in now if now[name] != then[name]]
        if names:
            message.append(f"{called or 'geometry.in'}: other {', '.join(names)}")
    return message


def _not_to_be_added(
    stage: Stage, before: list[dict[str, Any]], added: Sequence[Structure]
) -> list[str]:
    """Why systems cannot be added to a run."""
    if stage is not Stage.DONE:
        return [
            f"SYSTEMS: a system is added, but the run is not finished ({stage}): let it come to its"
            " end first, then add the system"
        ]
    known = {number for system in before for number in system["numbers"]}
    new = {int(number) for system in added for number in system.numbers} - known
    if not new:
        return []
    symbols = ", ".join(chemical_symbols[number] for number in sorted(new))
    return [
        f"SYSTEMS: the system that is added has {symbols}, which the run's models do not know:"
        " begin a new folder with all systems, and with the labels of this one as initial_data"
    ]


def _masses(
    before: list[dict[str, Any]] | None, systems: Sequence[Structure]
) -> tuple[Array | None, ...]:
    """The masses that a run began with, of which its momenta are."""
    if before is None:
        return (None,) * len(systems)
    found = [then["masses"] for then in before]
    return tuple(None if masses is None else np.array(masses) for masses in found)


def _other_masses(masses: Sequence[Array | None], systems: Sequence[Structure]) -> list[str]:
    message = []
    for then, system in zip(masses, systems, strict=False):  # added ones have their own
        kept = atoms_of(replace(system, masses=then)).get_masses()
        now = atoms_of(system).get_masses()
        pairs = {
            f"{chemical_symbols[z]} {a:g} -> {b:g} u"
            for z, a, b in zip(system.numbers, kept, now, strict=True)
            if a != b
        }
        if pairs:
            message.append(
                f"masses of species blocks: {', '.join(sorted(pairs))} (not applied: a run keeps "
                "the masses it began with)"
            )
    return message
