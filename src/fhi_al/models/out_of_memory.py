"""Batches of bounded size, and halves of those for which the memory does not suffice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from fhi_al.core.errors import EngineError

T = TypeVar("T")
R = TypeVar("R")

# Of torch's allocators (CPU on Linux, on Windows; GPU).  Only the GPU's have a type of their own,
# and that is lost on the way through compiled functions.
MESSAGES = ("can't allocate memory", "not enough memory", "out of memory")


class TooLarge(EngineError):
    """Not even one structure fits into memory."""


def parts(sizes: Sequence[int], bound: int) -> list[range]:
    """Consecutive parts whose sizes sum to at most `bound`, or of one item that is larger."""
    found: list[range] = []
    first, total = 0, 0
    for place, size in enumerate(sizes):
        if place > first and total + size > bound:
            found.append(range(first, place))
            first, total = place, 0
        total += size
    if len(sizes):
        found.append(range(first, len(sizes)))
    return found


def in_halves(
    items: Sequence[T],
    act: Callable[[Sequence[T]], list[R]],
    free: Callable[[], bool] | None = None,
) -> list[R]:
    """What `act` makes of all items; of each half of them, if it runs out of memory.

    Parameters
    ----------
    items : sequence
    act : callable
        Items -> results.  It may be called again with items it has failed on: what it changes
        before it fails must not matter.
    free : callable, optional
        Gives up memory that can be spared, and says whether there was any: then all items are tried
        once more before they are halved.

    Returns
    -------
    list
        The results of the calls that succeeded, in the order of the items.

    Raises
    ------
    TooLarge
        If it runs out of memory for a single item.
    """
    try:
        return act(items)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if len(items) < 2 and free is None:
            raise TooLarge(
                f"one structure alone does not fit into memory ({_first_line(error)}). Expected "
                "room for at least one: use fewer channels or a smaller r_max "
                "(mace_settings.yaml), fewer ranks on this host, or a device with more memory."
            ) from error
    # Outside the except clause: the error holds the tensors of the attempt.
    is_freed = free is not None and free()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if is_freed or len(items) < 2:
        return in_halves(items, act)
    middle = len(items) // 2
    return in_halves(items[:middle], act) + in_halves(items[middle:], act)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch or numpy ran out of memory."""
    if isinstance(error, TooLarge):
        return False  # it was halved as far as that goes
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in MESSAGES)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
