"""Killed while a snapshot is written, or with snapshots damaged, a run goes on and loses nothing.

fault_site/ kills at a file-system call of the write; the product knows nothing of it.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from run_folder import (
    LONG,
    TIMEOUT_S,
    assert_same_end,
    copy_of,
    fault_env,
    finish,
    ranks_of,
    run,
    snapshots,
    start,
    succeed,
    write_inputs,
)

from fhi_al.storage.checkpoint import (
    MANIFEST,
    STATE_VERSION,
    Snapshot,
    read_snapshot,
    write_snapshot,
)

# Calls that any write must make: whoever counts steps must have seen them.
STEPS = {"mkdir", "open", "write", "fsync", "replace", "rename", "unlink", "rmdir"}
FIRST, SECOND, THIRD, FOURTH = (
    {"run.json": b"%d" % n * 1000, "weights.pt": bytes([n]) * 20_000, "empty": b""}
    for n in (1, 2, 3, 4)
)
# Write in which a run is killed in the midst of active learning: with snapshot_interval 0 there is
# one after each step.
IN_ACTIVE_LEARNING = 34


def write_third(restart: Path, steps: Path, kill_at: int) -> tuple[int, list[str]]:
    """Write THIRD in a process that dies at a step (0: none); its end, the steps it came to."""
    script = (
        "import sys; from pathlib import Path\n"
        "from fhi_al.storage.checkpoint import write_snapshot\n"
        "content = {'run.json': b'3' * 1000, 'weights.pt': bytes([3]) * 20_000, 'empty': b''}\n"
        "write_snapshot(Path(sys.argv[1]), content)"
    )
    environment = fault_env(KILL_AT_STEP=kill_at, STEPS_LOG=steps)
    steps.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", script, str(restart)], env=environment, timeout=TIMEOUT_S
    )
    return done.returncode, steps.read_text().splitlines()


def test_killed_at_any_step_a_write_leaves_the_old_or_the_new(tmp_path) -> None:
    before = tmp_path / "before"
    for files in (FIRST, SECOND):
        write_snapshot(before, files)
    # The write begins with what another killed one left.
    (before / ".snapshot-00000003").mkdir()
    (before / ".snapshot-00000003" / "weights.pt").write_bytes(b"half")
    whole = copy_of(before, tmp_path / "whole")
    code, steps = write_third(whole, tmp_path / "steps.txt", 0)
    assert code == 0
    assert set(steps) >= STEPS
    assert len(steps) > 30
    # The temporary folder gets its name; the manifest's renaming is a "replace".
    (switch,) = (n for n, step in enumerate(steps, start=1) if step == "rename")
    for kill_at in range(1, len(steps) + 1):
        restart = copy_of(before, tmp_path / f"{kill_at}")
        code, reached = write_third(restart, tmp_path / "steps.txt", kill_at)
        assert code == -signal.SIGKILL
        assert len(reached) == kill_at
        expected = SECOND if kill_at <= switch else THIRD
        assert read_snapshot(restart) == Snapshot(STATE_VERSION, expected), reached
        write_snapshot(restart, FOURTH)
        assert read_snapshot(restart) == Snapshot(STATE_VERSION, FOURTH), reached
        assert len(list(restart.iterdir())) == 2
        shutil.rmtree(restart)


def killed_in_write(folder: Path, ranks: int, steps: Path, write: int, kill_at: int) -> int:
    """Start a run that dies at a step of a write; its exit code, when none of it is left."""
    steps.unlink(missing_ok=True)
    environment = fault_env(KILL_IN_WRITE=write, KILL_AT_STEP=kill_at, STEPS_LOG=steps)
    code, output = finish(start(folder, ranks, env=environment))
    assert not ranks_of(folder)
    assert "Traceback" not in output
    return code


@pytest.mark.mpi
@pytest.mark.real
def test_a_run_killed_inside_a_write_ends_as_the_unbroken_one(finished_run, tmp_path) -> None:
    folder = write_inputs(tmp_path / "run", models="mace")
    steps = tmp_path / "steps.txt"
    assert killed_in_write(folder, 2, steps, IN_ACTIVE_LEARNING, 15) != 0
    assert len(steps.read_text().splitlines()) == 15
    names = {path.name for path in (folder / "restart").glob("*snapshot-*")}
    assert f".snapshot-{IN_ACTIVE_LEARNING:08d}" in names
    assert snapshots(folder)[-1].name == f"snapshot-{IN_ACTIVE_LEARNING - 1:08d}"
    output = succeed(folder, 1)
    assert "continuing from the snapshot" in output and ": active learning" in output
    assert_same_end(folder, finished_run("tblite", 1, models="mace"))


@pytest.mark.slow
@pytest.mark.mpi
@pytest.mark.real
def test_a_run_killed_at_every_step_of_a_write_ends_as_the_unbroken_one(
    finished_run, tmp_path
) -> None:
    """One run: each launch dies at the next step of the first snapshot it writes."""
    folder = write_inputs(tmp_path / "run", active_learning={"ACTIVE_LEARNING": LONG})
    steps = tmp_path / "steps.txt"
    assert killed_in_write(folder, 1, steps, IN_ACTIVE_LEARNING, 1) != 0
    deadly: list[str] = []
    while killed_in_write(folder, 1 + len(deadly) % 2, steps, 1, len(deadly) + 1) != 0:
        deadly.append(steps.read_text().splitlines()[-1])
        assert len(deadly) < 150
    assert set(deadly) >= STEPS
    assert len(deadly) > 40
    assert_same_end(folder, finished_run("tblite", 1, long=True))


Damage = Callable[[Path], None]


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)


def remove(file: Path) -> None:
    file.unlink()


FILES = ("run.json", "phase_space.npz", "member_0.pt", "member_1.pt", MANIFEST)
IN_CI = ((truncate, "phase_space.npz"), (flip_a_bit, "member_1.pt"), (remove, "run.json"))
CASES = [
    pytest.param(damage, file, marks=() if (damage, file) in IN_CI else pytest.mark.slow)
    for damage in (truncate, flip_a_bit, remove)
    for file in FILES
]


@pytest.mark.mpi
@pytest.mark.real
@pytest.mark.parametrize(("damage", "file"), CASES)
def test_a_run_goes_on_from_before_a_damaged_snapshot(
    finished_run, killed_run, tmp_path, damage: Damage, file: str
) -> None:
    folder = copy_of(killed_run, tmp_path / "run")
    before, newest = snapshots(folder)[-2:]
    damage(newest / file)
    output = succeed(folder, 1)
    (warning,) = (line for line in output.splitlines() if f"{newest}: " in line)
    assert warning.endswith(f"continuing from {before}")
    if file != MANIFEST:
        assert file in warning
    assert_same_end(folder, finished_run("tblite", 1))


@pytest.mark.slow
@pytest.mark.mpi
@pytest.mark.real
def test_a_run_goes_on_without_its_newest_snapshot(finished_run, killed_run, tmp_path) -> None:
    folder = copy_of(killed_run, tmp_path / "run")
    shutil.rmtree(snapshots(folder)[-1])
    succeed(folder, 1)
    assert_same_end(folder, finished_run("tblite", 1))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that tells of the run's past; lock, status and logs are of the launch."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if path.name not in ("lock", "status.json") and path.suffix != ".log"
    }


@pytest.mark.mpi
@pytest.mark.real
def test_nothing_is_overwritten_if_every_snapshot_is_damaged(
    finished_run, killed_run, tmp_path
) -> None:
    folder = copy_of(killed_run, tmp_path / "run")
    older, newest = snapshots(folder)[-2:]
    good = (older / "member_0.pt").read_bytes()
    flip_a_bit(older / "member_0.pt")
    truncate(newest / "run.json")
    before = contents(folder)
    for options in ((), ("--check",)):
        code, output = run(folder, 2, *options)
        assert code == 2, output
        assert f"{older}: member_0.pt does not match its checksum" in output
        assert f"{newest}: run.json does not match its checksum" in output
        assert "Put restart/ back from a copy" in output and "Traceback" not in output
        assert contents(folder) == before
    # Put back as the message says, the run goes on.
    (older / "member_0.pt").write_bytes(good)
    succeed(folder, 2)
    assert_same_end(folder, finished_run("tblite", 1))
