"""Splitting of batches: by a bound, and in half when torch or numpy has run out of memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from fhi_al.models.out_of_memory import TooLarge, in_halves, is_out_of_memory, parts

TOO_MUCH = 2**55  # 128 PB in float32


@pytest.mark.parametrize(
    ("sizes", "bound", "expected"),
    [
        ([], 10, []),
        ([3], 10, [range(0, 1)]),
        ([4, 6, 1], 10, [range(0, 2), range(2, 3)]),
        ([11, 1, 12], 10, [range(0, 1), range(1, 2), range(2, 3)]),
        ([0, 0, 10, 0, 1], 10, [range(0, 4), range(4, 5)]),
    ],
)
def test_parts_hold_at_most_the_bound_and_at_least_one(
    sizes: list[int], bound: int, expected: list[range]
) -> None:
    assert parts(sizes, bound) == expected


def room_for(n_items: int) -> tuple[list[int], object]:
    """An act that really runs out of memory with more than `n_items`; it notes how many it got."""
    pending: list[int] = []

    def act(items: Sequence[int]) -> list[int]:
        pending.append(len(items))
        if len(items) > n_items:
            torch.empty(TOO_MUCH)
        return [10 * item for item in items]

    return pending, act


def test_halves_are_tried_until_they_fit_and_the_order_stays() -> None:
    pending, act = room_for(2)
    assert in_halves(range(7), act) == [0, 10, 20, 30, 40, 50, 60]
    assert pending == [7, 3, 1, 2, 4, 2, 2]


def test_one_structure_that_does_not_fit_is_a_clear_error() -> None:
    _, act = room_for(0)
    with pytest.raises(TooLarge, match=r"one structure alone does not fit .*fewer ranks") as raised:
        in_halves([1, 2, 3], act)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("n_items", [1, 4])
def test_what_can_be_spared_is_given_up_once_before_items_are_halved(n_items: int) -> None:
    spared: list[int] = []

    def act(items: Sequence[int]) -> list[int]:
        pending.append(len(items))
        if not spared:
            torch.empty(TOO_MUCH)
        return list(items)

    def free() -> bool:
        spared.append(1)
        return True

    pending: list[int] = []
    items = list(range(n_items))
    assert in_halves(items, act, free) == items
    assert pending == [n_items, n_items]
    assert spared == [1]


@pytest.mark.parametrize(
    ("is_freed", "expected"), [(False, [7, 3, 1, 2, 4, 2, 2]), (True, [7, 7, 3, 1, 2, 4, 2, 2])]
)
def test_where_that_does_not_help_items_are_halved(is_freed: bool, expected: list[int]) -> None:
    pending, act = room_for(2)
    assert in_halves(range(7), act, lambda: is_freed) == [0, 10, 20, 30, 40, 50, 60]
    assert pending == expected
    _, nothing = room_for(0)
    with pytest.raises(TooLarge, match="one structure alone does not fit"):
        in_halves([1], nothing, lambda: is_freed)


def test_other_errors_pass() -> None:
    def act(items: Sequence[int]) -> list[int]:
        pending.append(len(items))
        torch.zeros(2) + torch.zeros(3)
        return []

    pending: list[int] = []
    with pytest.raises(RuntimeError, match="size of tensor"):
        in_halves([1, 2], act)
    assert pending == [2]


@torch.jit.script
def _compiled(n: int) -> torch.Tensor:
    return torch.zeros([n])


@pytest.mark.parametrize(
    "ask",
    [torch.empty, _compiled, lambda n: np.zeros(n)],
    ids=["torch", "compiled", "numpy"],
)
def test_memory_errors_are_told_from_others(ask: object) -> None:
    with pytest.raises((RuntimeError, MemoryError)) as raised:
        ask(TOO_MUCH)
    assert is_out_of_memory(raised.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert not is_out_of_memory(RuntimeError("expected scalar type Double but found Float"))
