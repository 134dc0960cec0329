"""Which GPU a training rank takes."""

from __future__ import annotations

import pytest

from fhi_al.models.devices import training_device


def test_training_ranks_of_a_host_take_its_gpus_in_turn() -> None:
    devices = [training_device("cuda", index, 2) for index in range(5)]
    assert devices == ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]


def test_rank_that_is_shown_one_gpu_takes_it() -> None:
    assert [training_device("cuda", index, 1) for index in range(3)] == ["cuda"] * 3


def test_no_gpu_is_not_hidden() -> None:
    # torch then says that there is none; a silent "cpu" would train for days.
    assert training_device("cuda", 1, 0) == "cuda"


@pytest.mark.parametrize("device", ["cpu", "cuda:1", "mps", "xpu"])
def test_device_that_is_named_stays(device: str) -> None:
    assert training_device(device, 3, 4) == device
