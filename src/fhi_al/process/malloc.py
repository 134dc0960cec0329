"""glibc malloc tuning: keep freed memory in the process, or give it back.

Outside of glibc these functions do nothing.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
# glibc adapts two thresholds to what is freed until one of its parameters is set, and tells nobody
# where they are.  It ends at these values once a block of 32 MiB was freed, as a run does.
_DEFAULT_MMAP_MAX = 65536
_ADAPTED_MMAP_THRESHOLD = 32 * 2**20
_ADAPTED_TRIM_THRESHOLD = 2 * _ADAPTED_MMAP_THRESHOLD
# Below this, what is freed is needed again at once, and getting it anew takes longer than a label.
WORTH_GIVING_BACK = 256 * 2**20


class _Info(ctypes.Structure):
    """glibc's struct mallinfo2; all in bytes."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def _libc() -> Any:
    """The C library; None if it is not glibc 2.33 (2021) or later."""
    try:
        found = ctypes.CDLL(None)
        found.mallinfo2.restype = _Info
        found.malloc_trim.argtypes = [ctypes.c_size_t]
        found.mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
    except (OSError, TypeError, AttributeError):
        return None
    return found


_LIBC = _libc()


@contextmanager
def freed_memory_kept() -> Iterator[bool]:
    """Keep freed memory for the next tensor; gives True if the C library does so.

    By default glibc gives every block of more than 32 MiB back as soon as it is freed, and the
    system clears each page of the next one: with tensors of that size (from some two hundred atoms
    in a batch on) that was up to half of the time of an MD step.  Settings that the user made in
    the environment (MALLOC_..., GLIBC_TUNABLES) stay as they are.

    At the end what is kept is given back, and so is every large block from then on that does not
    fit between others in the heap.
    """
    if _LIBC is None or any(
        name.startswith("MALLOC_") or (name == "GLIBC_TUNABLES" and "malloc" in value)
        for name, value in os.environ.items()
    ):
        yield False
        return
    try:
        yield bool(_LIBC.mallopt(_MMAP_MAX, 0)) and bool(_LIBC.mallopt(_TRIM_THRESHOLD, -1))
    finally:
        _LIBC.mallopt(_MMAP_MAX, _DEFAULT_MMAP_MAX)
        _LIBC.mallopt(_MMAP_THRESHOLD, _ADAPTED_MMAP_THRESHOLD)
        _LIBC.mallopt(_TRIM_THRESHOLD, _ADAPTED_TRIM_THRESHOLD)
        _LIBC.malloc_trim(0)


def give_back_freed_memory(at_least: int = WORTH_GIVING_BACK) -> None:
    """Give the system what is kept, for others that need memory: engines, other processes.

    Parameters
    ----------
    at_least : int
        In bytes: less is kept.
    """
    if _LIBC is not None and _LIBC.mallinfo2().fordblks >= at_least:
        _LIBC.malloc_trim(0)
