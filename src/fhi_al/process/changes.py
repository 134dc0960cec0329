"""Changes of the process as a whole that are put back: its environment and its cores.

Each is a context; whoever opens a run keeps them on one stack, see ``app.process_set_up``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set variables of the environment; those that were not there are removed again."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def cores(wanted: Iterable[int]) -> Iterator[None]:
    """Let this thread, and those that it starts, run on other cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, wanted)
    now = os.sched_getaffinity(0)
    try:
        yield
    finally:
        # Threads of torch that were started meanwhile live on.
        for thread in Path("/proc/self/task").iterdir():
            with suppress(OSError):  # it has ended
                if os.sched_getaffinity(int(thread.name)) == now:
                    os.sched_setaffinity(int(thread.name), before)
