"""A full disk, a read-only one, inputs and folders that vanish: told clearly, nothing is lost."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from run_folder import (
    TIMEOUT_S,
    assert_same_end,
    copy_of,
    finish,
    kill_all,
    labels,
    ranks_of,
    run,
    snapshots,
    start,
    succeed,
    wait_for_labels,
    write_inputs,
)

from fhi_al.storage.checkpoint import read_snapshot

pytestmark = [pytest.mark.mpi, pytest.mark.real]

BLOCK = 4096


class Disk:
    """A small file system of its own where that may be mounted; else a limit on the size of files.

    Parameters
    ----------
    folder : Path
        Where it is mounted.
    """

    def __init__(self, folder: Path, size_mb: int = 16) -> None:
        self.folder = folder
        self._filling = folder / "filling"
        self.is_mounted = self._mount(f"size={size_mb}m")

    def _mount(self, options: str) -> bool:
        self.folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)]
        with contextlib.suppress(FileNotFoundError):
            return subprocess.run(command, capture_output=True, timeout=30).returncode == 0
        return False

    def fill(self, run: Path, free: int, largest: int) -> None:
        """Leave so many bytes free; or let a run there write no file larger than ``largest``."""
        if not self.is_mounted:
            for rank in ranks_of(run):
                with contextlib.suppress(ProcessLookupError):
                    resource.prlimit(rank, resource.RLIMIT_FSIZE, (largest, largest))
            return
        state = os.statvfs(self.folder)
        n_bytes = state.f_bavail * state.f_frsize - free
        if n_bytes >= BLOCK:
            # Unbuffered; it may come too late for some of it.
            with self._filling.open("ab", buffering=0) as stream, contextlib.suppress(OSError):
                stream.write(bytes(n_bytes))

    def empty(self) -> None:
        """Give the space back."""
        self._filling.unlink(missing_ok=True)

    def set_writable(self, run: Path, writable: bool) -> None:
        """Let nobody, or everybody, write here."""
        if self.is_mounted:
            options = f"remount,{'rw' if writable else 'ro'}"
            subprocess.run(["mount", "-o", options, str(self.folder)], check=True, timeout=30)
            return
        for path in [run, *run.rglob("*")]:
            path.chmod(path.stat().st_mode | 0o200 if writable else path.stat().st_mode & ~0o222)

    def close(self) -> None:
        """Take it away."""
        if self.is_mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True, timeout=30)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk that can be full."""
    made = Disk(tmp_path / "disk")
    yield made
    made.close()


def assert_clear(output: str) -> None:
    """A message, and nothing of what Python prints when something was not foreseen."""
    for words in ("Traceback", "Logging error", "Exception ignored"):
        assert words not in output, output


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the lock and the status, which tell of the last launch."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("lock", "status.json")
    }


# What does not fit any more: bytes left on the disk, largest file, seconds between snapshots.
FULL: dict[str, tuple[int, Callable[[Path], int], float]] = {
    "a snapshot": (100_000, lambda store: 100_000, 0.0),
    "a label": (0, lambda store: store.stat().st_size + 200, 1000.0),
}


@pytest.mark.parametrize("what", FULL)
def test_a_full_disk_is_a_clear_error_and_loses_nothing(
    finished_run, tmp_path, disk: Disk, what: str
) -> None:
    free, largest, interval_s = FULL[what]
    changes = {"MISC": {"snapshot_interval": interval_s}}
    folder = write_inputs(disk.folder / "run", active_learning=changes)
    store = folder / "restart" / "labels.jsonl"
    # A limit is one of the process that is found by the folder.
    job = start(folder, 2, preload=disk.is_mounted)
    wait_for_labels(job, folder, 20)
    deadline = time.monotonic() + TIMEOUT_S
    while job.poll() is None and time.monotonic() < deadline:
        # Again and again: the run drops old snapshots, and what it writes may come in between.
        disk.fill(folder, free, largest(store))
        time.sleep(0.005)
    code, output = finish(job)
    assert code == 1, output
    assert ("No space left on device" if disk.is_mounted else "File too large") in output
    assert "What was written before is intact" in output
    assert_clear(output)
    before = labels(folder)
    assert 20 <= len(before) < 81
    saved = read_snapshot(folder / "restart")
    assert (saved is not None) == (what == "a snapshot")
    disk.empty()
    succeed(folder, 1)
    assert labels(folder)[: len(before)] == before
    assert_same_end(folder, finished_run("tblite", 1))


def test_a_read_only_folder_is_a_clear_error(
    finished_run, killed_run, tmp_path, disk: Disk
) -> None:
    if not disk.is_mounted and os.geteuid() == 0:
        pytest.skip("no file system can be mounted here, and root may write everywhere")
    folder = copy_of(killed_run, disk.folder / "run")
    before = contents(folder)
    disk.set_writable(folder, False)
    assert "continues the run in restart/: active learning" in succeed(folder, 1, "--check")
    code, output = run(folder, 2)
    disk.set_writable(folder, True)
    assert code == 1, output
    assert str(folder) in output
    assert "Read-only file system" in output or "Permission denied" in output
    assert_clear(output)
    assert contents(folder) == before
    succeed(folder, 1)
    assert_same_end(folder, finished_run("tblite", 1))


@pytest.mark.parametrize("name", ["geometry.in", "control.in", "mace_settings.yaml"])
def test_a_vanished_input_is_named_and_the_snapshot_stays(
    asi_library, killed_run, tmp_path, name: str
) -> None:
    folder = write_inputs(tmp_path / "run", asi_library=asi_library)
    shutil.copytree(killed_run / "restart", folder / "restart")
    (folder / name).unlink()
    before = contents(folder)
    code, output = run(folder, 2)
    assert code == 2, output
    assert name in output
    assert_clear(output)
    assert contents(folder) == before


def test_the_engines_folder_vanishes_while_it_runs(finished_run, asi_library, tmp_path) -> None:
    folder = write_inputs(tmp_path / "run", asi_library=asi_library)
    job = start(folder, 2)
    wait_for_labels(job, folder, 20)
    shutil.rmtree(folder / "aims")
    code, output = finish(job, timeout_s=60)
    assert code == 1, output
    assert f"{folder / 'aims'}: the engine's folder is gone" in output
    succeed(folder, 1)
    assert_same_end(folder, finished_run("asi", 1))


def test_the_restart_folder_vanishes_while_it_is_used(tmp_path) -> None:
    folder = write_inputs(tmp_path / "run")
    job = start(folder, 1)
    wait_for_labels(job, folder, 20)
    (folder / "restart").rename(tmp_path / "taken away")
    try:
        code, output = finish(job, timeout_s=60)
    finally:
        if job.poll() is None:
            kill_all(job)
    assert code == 1, output
    assert str(folder / "restart") in output
    assert_clear(output)
    # Put back, it is what it was.
    shutil.rmtree(folder / "restart", ignore_errors=True)
    (tmp_path / "taken away").rename(folder / "restart")
    assert len(labels(folder)) >= 20
    assert snapshots(folder)
