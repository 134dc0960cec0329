"""Which GPUs a rank sees, found without torch."""

from __future__ import annotations

from pathlib import Path

import pytest

from fhi_al.parallel.mpi import visible_gpus


@pytest.mark.parametrize(
    ("variable", "seen"),
    [
        (None, ("0", "1")),
        ("1", ("1",)),
        ("1, 0", ("1", "0")),
        ("GPU-8932f937,GPU-1", ("GPU-8932f937", "GPU-1")),
        ("", ()),
        ("-1", ()),
        ("0,-1,1", ("0",)),
    ],
)
def test_of_the_gpus_of_a_host_those_that_the_rank_may_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str | None, seen: tuple[str, ...]
) -> None:
    for bus in ("0000:3b:00.0", "0000:af:00.0"):
        (tmp_path / bus).mkdir()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert visible_gpus(tmp_path) == seen
    assert visible_gpus(tmp_path / "no driver") == ()
