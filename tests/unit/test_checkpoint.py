"""Snapshots: whole or not there, verified when read, the one before kept."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fhi_al.storage import checkpoint
from fhi_al.storage.checkpoint import MANIFEST, STATE_VERSION, SnapshotError, write_snapshot

FIRST = {"run.json": b'{"n": 1}', "weights.pt": bytes(range(256)) * 40, "empty": b""}
SECOND = {**FIRST, "run.json": b'{"n": 2}'}


def read_snapshot(folder: Path) -> dict[str, bytes] | None:
    found = checkpoint.read_snapshot(folder)
    assert found is None or found.version == STATE_VERSION
    return None if found is None else found.files


def snapshots(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_no_snapshot_is_none(tmp_path: Path) -> None:
    assert read_snapshot(tmp_path / "restart") is None
    (tmp_path / "labels.jsonl").touch()
    assert read_snapshot(tmp_path) is None


def test_files_come_back_as_they_were(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "restart"
    assert write_snapshot(folder, FIRST) == folder / "snapshot-00000001"
    assert read_snapshot(folder) == FIRST


def test_the_last_two_generations_are_kept(tmp_path: Path) -> None:
    for n in range(5):
        write_snapshot(tmp_path, {"n": b"%d" % n})
    assert snapshots(tmp_path) == ["snapshot-00000004", "snapshot-00000005"]
    assert read_snapshot(tmp_path) == {"n": b"4"}


def test_generations_are_ordered_by_number_not_by_name(tmp_path: Path) -> None:
    (tmp_path / "snapshot-99999999").mkdir()
    assert write_snapshot(tmp_path, FIRST).name == "snapshot-100000000"
    write_snapshot(tmp_path, SECOND)
    assert read_snapshot(tmp_path) == SECOND


def flip_a_byte(newest: Path) -> None:
    content = bytearray((newest / "weights.pt").read_bytes())
    content[5000] ^= 1
    (newest / "weights.pt").write_bytes(content)


def truncate(newest: Path) -> None:
    (newest / "weights.pt").write_bytes((newest / "weights.pt").read_bytes()[:-1])


def remove_a_file(newest: Path) -> None:
    (newest / "weights.pt").unlink()


def remove_the_manifest(newest: Path) -> None:
    (newest / MANIFEST).unlink()


def halve_the_manifest(newest: Path) -> None:
    text = (newest / MANIFEST).read_text()
    (newest / MANIFEST).write_text(text[: len(text) // 2])


def another_manifest(newest: Path) -> None:
    (newest / MANIFEST).write_text('["not", "a", "manifest"]')


def manifest_with_a_list(newest: Path) -> None:
    (newest / MANIFEST).write_text(json.dumps({"state_version": STATE_VERSION, "files": []}))


def binary_manifest(newest: Path) -> None:
    (newest / MANIFEST).write_bytes(b"\xff\xfe\x00")


def empty_the_folder(newest: Path) -> None:
    shutil.rmtree(newest)
    newest.mkdir()


def newer_version(newest: Path) -> None:
    manifest = json.loads((newest / MANIFEST).read_text())
    manifest["state_version"] = STATE_VERSION + 1
    (newest / MANIFEST).write_text(json.dumps(manifest))


DAMAGES = [
    (flip_a_byte, "weights.pt does not match its checksum"),
    (truncate, "weights.pt does not match its checksum"),
    (remove_a_file, "not complete"),
    (remove_the_manifest, "not complete"),
    (halve_the_manifest, "not complete"),
    (another_manifest, "not complete"),
    (manifest_with_a_list, "not complete"),
    (binary_manifest, "not complete"),
    (empty_the_folder, "not complete"),
    (newer_version, f"newer program (state version {STATE_VERSION + 1}; this one reads 1 to"),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGES)
def test_a_damaged_snapshot_gives_way_to_the_one_before(
    damage: Callable[[Path], None],
    words: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_snapshot(tmp_path, FIRST)
    newest = write_snapshot(tmp_path, SECOND)
    damage(newest)
    with caplog.at_level(logging.WARNING, "fhi_al"):
        assert read_snapshot(tmp_path) == FIRST
    (warning,) = caplog.messages
    assert str(newest) in warning
    assert words in warning
    assert warning.endswith(f"continuing from {tmp_path / 'snapshot-00000001'}")


@pytest.mark.parametrize(("damage", "words"), DAMAGES)
def test_if_all_are_damaged_that_is_an_error_that_names_each(
    damage: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    generations = [write_snapshot(tmp_path, files) for files in (FIRST, SECOND)]
    for generation in generations:
        damage(generation)
    with pytest.raises(SnapshotError) as caught:
        read_snapshot(tmp_path)
    for generation in generations:
        assert f"{generation}: " in str(caught.value)
    assert words in str(caught.value)
    assert "from a copy" in str(caught.value)


def test_an_older_version_is_read_and_named(tmp_path: Path) -> None:
    newest = write_snapshot(tmp_path, FIRST)
    manifest = json.loads((newest / MANIFEST).read_text())
    manifest["state_version"] = 1
    (newest / MANIFEST).write_text(json.dumps(manifest))
    assert checkpoint.read_snapshot(tmp_path) == checkpoint.Snapshot(1, FIRST)


def test_a_damaged_snapshot_does_not_push_out_the_last_good_one(tmp_path: Path) -> None:
    write_snapshot(tmp_path, FIRST)
    flip_a_byte(write_snapshot(tmp_path, SECOND))
    assert read_snapshot(tmp_path) == FIRST
    flip_a_byte(write_snapshot(tmp_path, SECOND))
    assert read_snapshot(tmp_path) == FIRST


def test_a_copy_that_the_user_made_is_left_alone(tmp_path: Path) -> None:
    original = write_snapshot(tmp_path, FIRST)
    copy = tmp_path / f"{original.name}.bak"
    shutil.copytree(original, copy)
    for _ in range(3):
        write_snapshot(tmp_path, SECOND)
    assert read_snapshot(tmp_path) == SECOND
    assert snapshots(tmp_path) == [copy.name, "snapshot-00000003", "snapshot-00000004"]


def test_what_a_killed_write_left_is_cleaned_away(tmp_path: Path) -> None:
    write_snapshot(tmp_path, FIRST)
    leftover = tmp_path / ".snapshot-00000002"
    leftover.mkdir()
    (leftover / "weights.pt").write_bytes(b"half")
    assert read_snapshot(tmp_path) == FIRST
    write_snapshot(tmp_path, SECOND)
    assert snapshots(tmp_path) == ["snapshot-00000001", "snapshot-00000002"]
    assert read_snapshot(tmp_path) == SECOND


def test_a_full_disk_leaves_the_generations_before(tmp_path: Path) -> None:
    """A real limit on the size of files, in a process of its own."""
    write_snapshot(tmp_path, FIRST)
    script = f"""
import resource
from pathlib import Path
from fhi_al.storage.checkpoint import write_snapshot

_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
try:
    write_snapshot(Path({str(tmp_path)!r}), {{"small": b"1", "large": bytes(10_000)}})
except OSError:
    raise SystemExit(7)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert run.returncode == 7, run.stdout + run.stderr
    assert read_snapshot(tmp_path) == FIRST
    write_snapshot(tmp_path, SECOND)
    assert snapshots(tmp_path) == ["snapshot-00000001", "snapshot-00000002"]


def test_a_kill_at_any_moment_leaves_a_snapshot_that_can_be_used(tmp_path: Path) -> None:
    """A process that writes snapshots without end is killed ten times, at different moments."""
    script = f"""
from pathlib import Path
from fhi_al.storage.checkpoint import write_snapshot

n = 0
while True:
    n += 1
    files = {{name: b"%d" % n * 2000 for name in "abcdef"}}
    write_snapshot(Path({str(tmp_path)!r}), files)
    print(n, flush=True)
"""
    for attempt in range(10):
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(1 + attempt):
            written = int(process.stdout.readline())
        process.kill()
        process.wait()
        files = read_snapshot(tmp_path)
        assert files is not None
        assert len(set(files.values())) == 1
        assert int(files["a"][: len(files["a"]) // 2000]) >= written
