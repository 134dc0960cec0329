"""Commands whose standard output, or error, nobody reads any more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from preloaded.launch import preloaded
from run_folder import TIMEOUT_S, labels, write_inputs

pytestmark = [pytest.mark.mpi, pytest.mark.real]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_inputs(
        tmp_path / "run",
        models="mace",
        mace={
            "GENERAL": {"default_dtype": "float32"},
            "ARCHITECTURE": {"num_interactions": 1, "num_channels": 2, "radial_MLP": [4]},
        },
        active_learning={
            "ACTIVE_LEARNING": {"n_samples": 2, "max_initial_epochs": 2, "intermediate_epochs": 1}
        },
    )


def ended(
    folder: Path,
    *options: str,
    command: str = "FHI_AL",
    errors_too: bool = False,
    preload: bool = False,
) -> tuple[int, str]:
    """Exit code and standard error of a command whose output is a pipe that nobody reads.

    With ``preload`` the libraries are imported before it starts, see preloaded/launch.py.
    """
    program = [str(Path(sys.executable).parent / command)]
    if preload:
        program = preloaded(program[0], mace=True)
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*program, "--workdir", str(folder), *options],
            stdout=writing,
            stderr=writing if errors_too else subprocess.PIPE,
            text=True,
            timeout=TIMEOUT_S,
        )
    finally:
        os.close(writing)
    return done.returncode, done.stderr or ""


@pytest.mark.parametrize("option", ["--check", "--help", "--version"])
def test_a_closed_pipe_is_no_error(folder: Path, option: str) -> None:
    assert ended(folder, option) == (0, "")


@pytest.mark.parametrize("errors_too", [False, True])
def test_what_a_check_finds_is_its_exit_code_all_the_same(folder: Path, errors_too: bool) -> None:
    (folder / "geometry.in").unlink()
    code, errors = ended(folder, "--check", errors_too=errors_too)
    assert code == 2
    assert errors_too or "geometry.in" in errors


def test_a_command_whose_reader_went_away_ends_as_ever(folder: Path) -> None:
    end = ended(folder, command="FHI_AL-initial-ds", errors_too=True, preload=True)
    assert end == (0, "")
    log = (folder / "initial_dataset.log").read_text()
    assert f"initial dataset done: {len(labels(folder))} labels" in log
    code, errors = ended(folder, command="FHI_AL-atomic-energies")
    assert (code, errors) == (0, "")
    assert (folder / "atomic_energies.yaml").is_file()


def test_a_full_disk_is_an_error_still(folder: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [str(Path(sys.executable).parent / "FHI_AL"), "--workdir", str(folder), "--check"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT_S,
        )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr and "has space left" in done.stderr
    assert "Traceback" not in done.stderr
