"""What a threshold other than the moving average promises, seen on runs with real models."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import read
from run_folder import (
    assert_same_end,
    journal,
    kill_all,
    labels,
    start,
    succeed,
    wait_until,
    write_inputs,
)

pytestmark = [pytest.mark.mpi, pytest.mark.real]

LIMIT = 0.2  # eV/A
CALIBRATED: dict[str, Any] = {
    "threshold_type": "quantile",
    "threshold_quantile": 0.8,
    "threshold_window": 6,
    "calibrate": True,
    "calibrated_threshold": LIMIT,
    "calibration_warmup": 10,
    "sanity_skip": 5,
    "max_MD_steps": 60,
}


def entries(folder: Path) -> list[dict[str, Any]]:
    """Checks and calibrations in the order in which they were written."""
    lines = (folder / "restart" / "journal.jsonl").read_text().splitlines()
    every = [json.loads(line) for line in lines]
    return [entry for entry in every if entry["kind"] in ("check", "calibration")]


def is_in_use(folder: Path) -> bool:
    return any(entry.get("in_use") for entry in journal(folder, "calibration"))


def assert_thresholds_follow(folder: Path) -> None:
    """First the quantile of the last uncertainties, then the limit over the scale in use."""
    seen: list[float] = []
    scale, by_quantile, by_scale = None, 0, 0
    for entry in entries(folder):
        if entry["kind"] == "calibration":
            if entry["counts"] and "in_use" in entry:
                scale = entry["scale"] if entry["in_use"] else None
            continue
        seen.append(entry["uncertainty"])
        if scale is not None:
            assert entry["threshold"] == pytest.approx(LIMIT / scale, rel=1e-12)
            by_scale += 1
        elif entry["threshold"] is not None:
            assert entry["threshold"] == pytest.approx(np.quantile(seen[-6:], 0.8), rel=1e-12)
            by_quantile += 1
        crosses = entry["threshold"] is not None and entry["uncertainty"] > entry["threshold"]
        assert entry["crosses"] == crosses
    assert by_quantile > 0 and by_scale > 0


def test_a_quantile_rules_until_the_uncertainty_is_calibrated_and_a_kill_changes_nothing(
    tmp_path: Path,
) -> None:
    settings = {"ACTIVE_LEARNING": CALIBRATED}
    unbroken = write_inputs(tmp_path / "unbroken", active_learning=settings)
    assert f"the threshold is a true error of {LIMIT:.3g} eV/A" in succeed(unbroken, 1)
    assert_thresholds_follow(unbroken)
    killed = write_inputs(tmp_path / "killed", active_learning=settings)
    job = start(killed, 1)
    path = killed / "restart" / "journal.jsonl"
    wait_until(
        job, lambda: path.exists() and b'"in_use":true' in _compact(path), "a calibration in use"
    )
    kill_all(job)
    succeed(killed, 1)
    assert_same_end(killed, unbroken)


def test_calibration_beside_labels_that_are_under_way(tmp_path: Path) -> None:
    folder = write_inputs(
        tmp_path / "run",
        active_learning={"ACTIVE_LEARNING": CALIBRATED | {"parallel": True, "num_trajectories": 3}},
    )
    succeed(folder, 3)
    assert is_in_use(folder)
    assert_thresholds_follow(folder)


def test_members_that_know_nothing_are_asked_from_the_first_check_on(tmp_path: Path) -> None:
    """Without the bound nothing would cross while the threshold warms up."""
    changed = {"max_threshold": 0.05, "threshold_warmup": 1000, "threshold_window": 1000}
    folder = write_inputs(
        tmp_path / "run", active_learning={"ACTIVE_LEARNING": changed | {"converge_al": False}}
    )
    output = succeed(folder, 1)
    assert "at most 0.05 x rms force of the initial dataset" in output
    initial = {
        frame.positions.tobytes(): frame.arrays["REF_forces"]
        for part in ("training", "validation")
        for frame in read(folder / "data" / "initial" / part / "combined.xyz", ":")
    }
    rms_force = np.sqrt(np.mean(np.square(list(initial.values()))))
    checks = journal(folder, "check")
    # The file holds forces in eight digits.
    thresholds = [check["threshold"] for check in checks]
    assert thresholds == pytest.approx([0.05 * rms_force] * len(checks), rel=1e-5)
    assert checks[0]["crosses"]


def test_md_goes_back_from_labels_that_are_far_above_the_initial_dataset(tmp_path: Path) -> None:
    """They are trained on; a kill changes nothing of it."""
    limit = 1e-3  # eV per atom: a part of the labels at 300 K
    changed = {"max_excess_energy": limit, "max_threshold": 0.05, "max_rollbacks": 3}
    settings = {"ACTIVE_LEARNING": changed | {"converge_al": False, "sanity_action": "add"}}
    folder = write_inputs(tmp_path / "run", active_learning=settings)
    output = succeed(folder, 1)
    stored = labels(folder)
    initial = [each for each in stored if each["origin"]["phase"] == "initial"]
    mean = np.mean([label["energy"] for label in initial])
    high = {
        (each["origin"]["trajectory"], each["origin"]["step"])
        for each in stored
        if each["origin"]["phase"] != "initial" and (each["energy"] - mean) / 3 > limit
    }
    back = {
        (int(trajectory), int(step))
        for trajectory, step in re.findall(
            r"trajectory (\d+), MD step (\d+): the label's energy is .*max_excess_energy", output
        )
    }
    assert high
    assert back == high
    assert len(high) < len(stored) - len(initial)
    again = write_inputs(tmp_path / "killed", active_learning=settings)
    job = start(again, 1)
    wait_until(job, lambda: _n_back(again) > 0, "a label that is too high")
    kill_all(job)
    succeed(again, 1)
    assert_same_end(again, folder)


def _n_back(folder: Path) -> int:
    log = folder / "AL.log"
    return log.read_text().count("max_excess_energy") if log.exists() else 0


def _compact(path: Path) -> bytes:
    return path.read_bytes().replace(b" ", b"")
