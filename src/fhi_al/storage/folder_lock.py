"""One run in a folder at a time.

Owns ``restart/lock``.  The operating system holds the lock (flock) and lets it go when the process
dies, however it dies: a lock that is left over is never in the way, on this or another host.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from pathlib import Path

from fhi_al.core.errors import InputError

log = logging.getLogger(__name__)

LOCK = "lock"


class FolderInUse(Exception):
    """Another run works in the folder."""


def require_no_file(folder: Path) -> None:
    """Return if a folder is there or can be made.

    Raises
    ------
    InputError
        If a file is in its place, or in that of a folder above it.
    """
    for place in (folder, *folder.parents):
        if place.is_dir():
            return
        if place.exists():
            raise InputError(
                [f"{place}: is a file: expected a folder, or nothing. Move it away, or rename it."]
            )


class FolderLock:
    """Holds the folder from its making until :meth:`close`.

    Parameters
    ----------
    state : Path
        ``restart/`` of a run, or what another command has in its place.
    stop_file : Path
        What asks its holder to stop.

    Raises
    ------
    InputError
        If a file is in its place.
    FolderInUse
        Naming host and process of the run that has it.
    """

    def __init__(self, state: Path, stop_file: Path) -> None:
        require_no_file(state)
        state.mkdir(parents=True, exist_ok=True)
        path = state / LOCK
        self._stream = path.open("a+")
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._stream.seek(0)
            holder = self._stream.read().strip() or "unknown"
            self._stream.close()
            raise FolderInUse(
                f"{state.parent}: another run works in this folder ({holder}): expected to be "
                f"the only one. Wait for it, stop it (the file {stop_file} does), or use a "
                "folder of its own."
            ) from error
        except OSError as error:
            log.warning(
                "%s: this file system knows no locks (%s); make sure no other run is here",
                path,
                error.strerror,
            )
        self._stream.truncate(0)
        self._stream.write(f"host {socket.gethostname()}, process {os.getpid()}\n")
        self._stream.flush()

    def close(self) -> None:
        """Let the folder go; the file stays, so that nobody locks a file that is being removed."""
        self._stream.close()
