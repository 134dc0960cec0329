"""What may be different when a run is continued, and who may work in its folder."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from run_folder import copy_of, finish, labels, run, start, succeed, wait_for_labels, write_inputs

pytestmark = [pytest.mark.mpi, pytest.mark.real]


def change(folder: Path, file: str, old: str, new: str) -> None:
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))


def test_limits_may_change_and_the_change_is_told(finished_run, tmp_path) -> None:
    folder = copy_of(finished_run("tblite", 1), tmp_path / "run")
    change(folder, "active_learning_settings.yaml", "desired_acc: 0.02", "desired_acc: 0.03")
    output = succeed(folder, 1, "--check")
    assert "continues the run in restart/: done" in output
    assert "changed since the snapshot: ACTIVE_LEARNING.desired_acc: 0.02 -> 0.03" in output
    output = succeed(folder, 2)
    assert "changed since the snapshot: ACTIVE_LEARNING.desired_acc: 0.02 -> 0.03" in output
    assert "complete already" in output


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("mace_settings.yaml", "batch_size: 5", "batch_size: 6", "TRAINING.batch_size: 5 -> 6"),
        ("geometry.in", "0.1173", "0.1273", "geometry.in: other positions"),
        ("mace_settings.yaml", "seed: 7", "seed: 8", "GENERAL.seed: 7 -> 8"),
        (
            "active_learning_settings.yaml",
            "temperature: 300",
            "temperature: 400",
            "MD.temperature: 300.0 -> 400.0",
        ),
    ],
)
def test_what_decided_the_past_must_stay(finished_run, tmp_path, file, old, new, message) -> None:
    folder = copy_of(finished_run("tblite", 1), tmp_path / "run")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    change(folder, file, old, new)
    code, output = run(folder, 1, "--check")
    assert code == 2 and message in output, output
    code, output = run(folder, 2)
    assert code == 2, output
    assert (
        message in output and "Put them back as they were" in output and "Traceback" not in output
    )
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    changed = {
        path.relative_to(folder).parts[0] for path in after if before.get(path) != after[path]
    }
    assert changed <= {file, "restart", "logs"}
    assert labels(folder) == labels(finished_run("tblite", 1))


def test_a_second_run_in_the_folder_is_refused(asi_library, tmp_path) -> None:
    folder = write_inputs(tmp_path / "run", asi_library=asi_library)
    first = start(folder, 2)
    wait_for_labels(first, folder, 1)
    code, output = run(folder, 2)
    assert code == 2, output
    assert "another run works in this folder (host " in output and "Traceback" not in output
    os.killpg(first.pid, signal.SIGKILL)
    finish(first)
    # The lock of a killed run is not in the way.
    succeed(folder, 2, command="FHI_AL-initial-ds")
