"""Where the C library keeps the memory that is freed in this process.

Outside of glibc these functions do nothing.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
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


def keep_freed_memory() -> bool:
    """From here on keep freed memory for the next tensor; True if the C library does so.

    By default glibc gives every block of more than 32 MiB back as soon as it is freed, and the
    system clears each page of the next one: with tensors of that size (from some two hundred atoms
    in a batch on) that was up to half of the time of an MD step.  Settings that the user made in
    the environment (MALLOC_..., GLIBC_TUNABLES) stay as they are.
    """
    if _LIBC is None or any(
        name.startswith("MALLOC_") or (name == "GLIBC_TUNABLES" and "malloc" in value)
        for name, value in os.environ.items()
    ):
        return False
    return bool(_LIBC.mallopt(_MMAP_MAX, 0)) and bool(_LIBC.mallopt(_TRIM_THRESHOLD, -1))


def give_back_freed_memory(at_least: int = WORTH_GIVING_BACK) -> None:
    """Give the system what is kept, for others that need memory: engines, other processes.

    Parameters
    ----------
    at_least : int
        In bytes: less is kept.
    """
    if _LIBC is not None and _LIBC.mallinfo2().fordblks >= at_least:
        _LIBC.malloc_trim(0)
