"""Process-wide switches of torch as runs need them: threads, TorchScript, memory; put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fhi_al.process.malloc import freed_memory_kept


@contextmanager
def torch_set_up(threads: int | None = None) -> Iterator[None]:
    """Set torch up for a run, and put back what was there.

    Enter it before any model is trained or run: without it models work, but the first gradients of
    a process differ in their last bits from those of a resumed run.

    Parameters
    ----------
    threads : int or None
        Threads that torch uses in this process; None leaves them.
    """
    threads_before = torch.get_num_threads()
    # With the profiling executor on, the first gradients of a process differ in their last bits
    # from later ones, and a run resumed in a new process is not bitwise the unbroken run.  It must
    # be off before any scripted function has run; it costs nothing measurable.
    profiling_before = torch._C._jit_set_profiling_mode(False)
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        with freed_memory_kept():
            yield
    finally:
        torch._C._jit_set_profiling_mode(profiling_before)
        torch.set_num_threads(threads_before)
