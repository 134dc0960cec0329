"""The benchmark on a GPU runs through on a CPU: it must not fail on the first card it meets."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_every_table_of_the_gpu_benchmark_is_made_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import gpu

    gpu.main(["--device", "cpu", "--quick"])
    printed = capsys.readouterr().out
    assert "Error" not in printed and "failed" not in printed, printed
    for way in gpu.WAYS:
        assert re.search(rf", {way}(, ms of an epoch of 2 members: one after|: )", printed), printed
        if gpu.absent(way, "cpu") is None:
            # A step, no share of a GPU, forces of few and of many.
            numbers = r"\s+[\d.]+" + r"\s+-" + 2 * r"\s+[\d.]+"
            assert re.search(rf"{way}{numbers}", printed), printed
    assert re.search(r"auto\s+[\d.]+ \(\d+ x\)\s+[\d.]+ \(\d+ x\)", printed), printed
    assert re.search(r"one after the other [\d.]+, side by side [\d.]+", printed), printed
    assert re.search(r"largest difference in eV/A: plain 0\.0e\+00, recorded 0\.0e\+00", printed)
    assert "largest difference of weights: 0" in printed
    assert re.search(r"the ethanol example: \d+ s", printed)
