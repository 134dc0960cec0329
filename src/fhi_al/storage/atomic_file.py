"""Writing files so that a kill leaves the old or the new one, never half of one.

And lines at the end of one, so that a full disk leaves it as it was.
"""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace a file in one step; it is on the disk, not only in a cache, when this returns."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def replace_in_one_step(path: Path, content: str) -> None:
    """Replace a file in one step, without waiting for the disk; no half of one is left behind.

    For what is written again soon: after a crash of the machine it may be the old one, or empty.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(content, encoding="utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def append_whole(stream: FileIO, content: bytes) -> None:
    """Append all of it or nothing; it is on the disk when this returns.

    Parameters
    ----------
    stream : FileIO
        Opened with ``"ab"``, unbuffered: what a full disk did not take must not be written by a
        later call.
    content : bytes

    Raises
    ------
    OSError
        If the disk is full or read-only; the file is as before the call.
    """
    start = stream.seek(0, os.SEEK_END)
    rest = memoryview(content)
    try:
        # A nearly full disk takes a part, without an error.
        while rest:
            rest = rest[stream.write(rest) :]
        os.fsync(stream.fileno())
    except OSError as error:
        stream.truncate(start)
        raise OSError(error.errno, error.strerror, stream.name) from error


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk (a rename is not durable before that)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
