"""Snapshots of a run: complete or not there, verified when read, the last good one before kept.

Owns ``restart/snapshot-*``: a folder of files and ``manifest.json``, written last, with the size
and SHA-256 of each.  Knows nothing of what the files hold.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fhi_al.storage.atomic_file import sync_folder, write_atomically

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
_NAME = re.compile(r"snapshot-(\d+)")
# Raised when the meaning of a snapshot's files changes; who reads older ones upgrades them.
STATE_VERSION = 8


@dataclass(frozen=True)
class Snapshot:
    """A complete snapshot: the version of the state in it, and its files by name."""

    version: int
    files: dict[str, bytes]


class SnapshotError(RuntimeError):
    """No snapshot in the folder can be used, though there are some."""


def write_snapshot(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write the next generation and drop those before, but for the newest good one.

    Parameters
    ----------
    folder : Path
        ``restart/``.
    files : mapping
        Name -> content.

    Returns
    -------
    Path
        The snapshot's folder.

    Raises
    ------
    OSError
        If the disk is full or read-only; the generations before are untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".snapshot-*"):
        shutil.rmtree(leftover)
    generations = _generations(folder)
    number = 1 + (_number(generations[-1]) if generations else 0)
    target = folder / f"snapshot-{number:08d}"
    temporary = folder / f".{target.name}"
    temporary.mkdir()
    for name, content in files.items():
        _write(temporary / name, content)
    manifest = {
        "state_version": STATE_VERSION,
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
        },
    }
    write_atomically(temporary / MANIFEST, json.dumps(manifest, indent=1))
    sync_folder(temporary)
    temporary.rename(target)
    sync_folder(folder)
    # Verified, so that a damaged snapshot does not push out the good one before it.
    kept = next((old for old in reversed(generations) if not isinstance(_read(old), str)), None)
    for old in generations:
        if old != kept:
            shutil.rmtree(old)
    return target


def read_snapshot(folder: Path) -> Snapshot | None:
    """The newest complete snapshot; None if there never was one.

    Raises
    ------
    SnapshotError
        If there are snapshots and none is complete and of a version this program reads.
    """
    generations = _generations(folder)
    problems: list[str] = []
    for generation in reversed(generations):
        found = _read(generation)
        if isinstance(found, Snapshot):
            if problems:
                log.warning("%s; continuing from %s", "; ".join(problems), generation)
            return found
        problems.append(f"{generation}: {found}")
    if problems:
        raise SnapshotError(
            f"{'; '.join(problems)}: expected at least one complete snapshot. Put restart/ back "
            "from a copy, or remove its snapshot-* folders to start afresh (labels in "
            "restart/labels.jsonl are used again)."
        )
    return None


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _generations(folder: Path) -> list[Path]:
    # Other names (a copy that a user made) are not ours to read or to drop.
    return sorted((p for p in folder.glob("snapshot-*") if _NAME.fullmatch(p.name)), key=_number)


def _number(generation: Path) -> int:
    return int(generation.name.removeprefix("snapshot-"))


def _read(generation: Path) -> Snapshot | str:
    """The snapshot in a folder, or what is wrong with it."""
    try:
        manifest = json.loads((generation / MANIFEST).read_text())
        version = int(manifest["state_version"])
        if not 1 <= version <= STATE_VERSION:
            return (
                f"written by a newer program (state version {version}; this one reads 1 to "
                f"{STATE_VERSION})"
            )
        files = {}
        for name, expected in manifest["files"].items():
            content = (generation / name).read_bytes()
            if hashlib.sha256(content).hexdigest() != expected["sha256"]:
                return f"{name} does not match its checksum"
            files[name] = content
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"not complete ({error})"
    return Snapshot(version, files)
