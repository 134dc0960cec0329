"""The process as a run sets it up: models are compared to the last bit in these tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fhi_al.models.torch_set_up import torch_set_up


@pytest.fixture(scope="session", autouse=True)
def torch_of_a_run() -> Iterator[None]:
    with torch_set_up():
        yield
