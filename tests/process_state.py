"""The state of a process as a whole: what a library that is used should leave as it found it.

An inventory by rules rather than a list: every zero-argument getter of the libraries, every
function, class and plain value in the modules that are loaded, every logger, signal, thread and
open file.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import inspect
import locale
import logging
import os
import re
import resource
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

GETTERS = ("get_", "get", "is_", "are_")
ASKED = re.compile(r"torch|torch\.backends\..*|numpy|sys|os|locale|threading")
PLAIN = (bool, int, float, str, bytes, type(None))
STAY = {"tqdm_monitor"}  # of the progress bars of torch.fx
_SA_RESTORER = 0x04000000  # glibc sets it when it sets anything
# Counters, caches and times of libraries: no setting.
CHANGES_ANYWAY = {
    "gc.get_count",
    "gc.get_stats",
    "gc.get_objects",
    "sys.getallocatedblocks",
    "sys.get_asyncgen_hooks",
    "os.getloadavg",
    "os.getrandom",
    "torch.get_rng_state",  # compared as numbers below
}


def process_state() -> dict[str, str]:
    """Name -> value of everything process-wide that could be found, as text."""
    state = {
        "environment": repr(sorted(os.environ.items())),
        "folder": str(Path.cwd()),
        "umask": repr(_umask()),
        "locale": locale.setlocale(locale.LC_ALL),
        "limits": repr([resource.getrlimit(number) for number in range(16)]),
        "faulthandler": repr(faulthandler.is_enabled()),
        "garbage collection": repr((gc.isenabled(), gc.get_threshold())),
        "large arrays are mapped": repr(_large_arrays_are_mapped()),
        "warnings": repr((warnings.filters, id(warnings.showwarning))),
        "captured warnings": repr(logging._warnings_showwarning),  # type: ignore[attr-defined]
        "open files": repr(sorted(_open_files())),
        "threads": repr(sorted({thread.name for thread in threading.enumerate()} - STAY)),
        "cores": repr(_cores()),
        "standard streams": repr([id(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)]),
        "path": repr(sys.path),
    }
    for number in sorted(signal.valid_signals()):
        state[f"signal {number}"] = repr((signal.getsignal(number), _sigaction(number)))
    for logger in [logging.root, *logging.root.manager.loggerDict.values()]:
        if isinstance(logger, logging.Logger):
            state[f"logger {logger.name}"] = repr(
                (logger.level, logger.propagate, logger.disabled, logger.handlers, logger.filters)
            )
    for name, module in sorted(sys.modules.items()):
        state.update(_of_module(name, module))
    import ase.parallel
    import numpy as np
    import torch

    state["ase.parallel.world.comm"] = repr(ase.parallel.world.comm)
    state["torch random stream"] = repr(torch.get_rng_state().sum())
    state["numpy random stream"] = repr(hash(str(np.random.get_state())))
    profiling = torch._C._jit_set_profiling_mode(True)
    torch._C._jit_set_profiling_mode(profiling)
    state["TorchScript profiles"] = repr(profiling)
    return state


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """What there was before and is not the same any more."""
    return [
        f"{name}: {before[name]} -> {after.get(name)}"
        for name in before
        if after.get(name) != before[name]
    ]


def _of_module(name: str, module: ModuleType | None) -> Iterator[tuple[str, str]]:
    """Functions, classes and plain values of a module, and what its getters say."""
    if not isinstance(module, ModuleType) or name in ("__main__", "__mp_main__", __name__):
        return
    for attribute, value in list(vars(module).items()):
        full = f"{name}.{attribute}"
        if full in CHANGES_ANYWAY or attribute.startswith("_"):  # caches, mostly
            continue
        if isinstance(value, FunctionType | BuiltinFunctionType | type):
            yield full, str(id(value))
        elif isinstance(value, PLAIN):
            yield full, repr(value)
        if attribute.startswith(GETTERS) and ASKED.fullmatch(name):
            yield from _asked(full, value)


def _asked(name: str, getter: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(getter, FunctionType | BuiltinFunctionType):
        return
    try:
        if inspect.signature(getter).parameters:
            return
    except ValueError:  # of C: its parameters are not known
        pass
    try:
        value = getter()
    except Exception:  # it wants arguments, or a device that is not here
        return
    if isinstance(value, (*PLAIN, tuple, list, dict)) or type(value).__name__ in (
        "dtype",
        "device",
    ):
        yield f"{name}()", repr(value)


def _cores() -> list[tuple[int, ...]]:
    """Of all threads, those of libraries included."""
    threads = [int(thread.name) for thread in Path("/proc/self/task").iterdir()]
    return sorted({tuple(sorted(os.sched_getaffinity(thread))) for thread in threads})


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sigaction(number: int) -> tuple[str, int]:
    """The handler as the system knows it, the signals it blocks, and its flags (glibc, 64 bit)."""
    action = ctypes.create_string_buffer(256)
    ctypes.CDLL(None).sigaction(int(number), None, action)
    flags = int.from_bytes(action.raw[136:140], "little") & ~_SA_RESTORER
    return action.raw[:16].hex(), flags


class _Memory(ctypes.Structure):
    """glibc's struct mallinfo2; all in bytes."""

    _fields_ = (
        ("before", 4 * ctypes.c_size_t),
        ("mapped", ctypes.c_size_t),
        ("after", 5 * ctypes.c_size_t),
    )


def _large_arrays_are_mapped() -> bool:
    """Whether 1 GiB comes from the system, and goes back to it at once: glibc's default.

    Less may fit between others in the heap.  None of it is touched.
    """
    import numpy as np

    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        return True
    libc.mallinfo2.restype = _Memory
    before = libc.mallinfo2().mapped
    array = np.empty(2**27)
    during = libc.mallinfo2().mapped
    del array
    return during - before >= 2**30


def _open_files() -> set[str]:
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:  # that of the listing itself
            continue
        found.add(target)
    return found
