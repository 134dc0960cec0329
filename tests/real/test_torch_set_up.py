"""What torch needs for a run is set for its time only."""

from __future__ import annotations

import pytest
import torch

from fhi_al.models.torch_set_up import torch_set_up

pytestmark = pytest.mark.real


def profiling() -> bool:
    """Whether TorchScript profiles: only setting it tells."""
    mode: bool = torch._C._jit_set_profiling_mode(False)
    torch._C._jit_set_profiling_mode(mode)
    return mode


@pytest.mark.parametrize("before", [True, False])
def test_threads_and_profiling_are_put_back_after_an_error(before: bool) -> None:
    outside = torch._C._jit_set_profiling_mode(before)
    threads = torch.get_num_threads()
    try:
        with pytest.raises(ZeroDivisionError), torch_set_up(threads + 1):
            # With profiling, the first gradients of a process differ in their last bits.
            assert not profiling()
            assert torch.get_num_threads() == threads + 1
            raise ZeroDivisionError
        assert profiling() is before
        assert torch.get_num_threads() == threads
    finally:
        torch._C._jit_set_profiling_mode(outside)


def test_threads_stay_where_none_are_given() -> None:
    threads = torch.get_num_threads()
    with torch_set_up():
        assert torch.get_num_threads() == threads
