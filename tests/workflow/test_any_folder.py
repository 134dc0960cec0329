"""Every command on every kind of folder: documented exit codes, no traceback, nothing half done."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase.build import molecule
from run_folder import copy_of

from fhi_al import cli
from fhi_al.report.status_file import NAME, process_start
from fhi_al.storage.folder_lock import FolderLock

pytestmark = [pytest.mark.mpi, pytest.mark.real]

OLD_STATES = Path(__file__).parent / "old_states"
INPUTS = ("geometry.in", "active_learning_settings.yaml", "mace_settings.yaml")
DONE, WRONG_INPUT = 0, 2

Main = Callable[[list[str]], int]
# Name -> command and its arguments; F is the folder, S a file of structures, L one with labels.
COMMANDS: dict[str, tuple[Main, str]] = {
    "status": (cli.main_status, "F"),
    "status json": (cli.main_status, "F --json"),
    "run": (cli.main, "--workdir F"),
    "check": (cli.main, "--workdir F --check"),
    "initial check": (cli.main_initial_ds, "--workdir F --check"),
    "al check": (cli.main_al, "--workdir F --check"),
    "atomic check": (cli.main_atomic_energies, "--workdir F --check"),
    "label check": (cli.main_label, "S --workdir F --check"),
    "label": (cli.main_label, "S --workdir F"),
    "evaluate": (cli.main_evaluate, "--workdir F --on L"),
    "evaluate md check": (cli.main_evaluate, "--workdir F --on md --check"),
    "report": (cli.main_report, "F"),
    "init": (cli.main_init, "F --geometry S --engine tblite"),
}
ENGINE_ALONE = {"atomic check", "label check", "label"}
STATUS = {"status", "status json"}
# Kind of folder -> commands that succeed there, what FHI_AL-status says, and which are not tried,
# for they would run a whole run.
KINDS: dict[str, tuple[set[str], str, set[str]]] = {
    "absent": ({"init"}, "no such folder", set()),
    "empty": (STATUS | {"init"}, "no folder of FHI_AL", set()),
    "other people's": (STATUS | {"init"}, "no status of FHI_AL", set()),
    "a file": (STATUS, "a file", set()),
    "not begun": (STATUS | ENGINE_ALONE | {"check", "initial check"}, "not begun", {"run"}),
    "finished": (set(COMMANDS) - {"init"}, "finished", set()),
    "killed": (set(COMMANDS) - {"init"}, "killed", {"run"}),
    "running": (set(COMMANDS) - {"init", "run"}, "running", set()),
    "half-written status": (set(COMMANDS) - {"init"}, "status.json cannot be read", set()),
    "of an older version": (STATUS | {"report"}, "begun by an older version", set()),
}


@pytest.fixture(scope="module")
def folders(
    finished_run: Callable[..., Path], killed_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """One folder of each kind, and the files S and L."""
    place = tmp_path_factory.mktemp("folders")
    found = {kind: place / kind.replace(" ", "_") for kind in KINDS}
    found["empty"].mkdir()
    others = found["other people's"]
    (others / "model").mkdir(parents=True)
    (others / NAME).write_text('{"of": "another program"}')
    (others / "model" / "notes.txt").write_text("mine")
    found["a file"].write_text("mine")
    found["not begun"].mkdir()
    finished = finished_run("tblite", 1)
    for name in INPUTS:
        shutil.copy(finished / name, found["not begun"])
    for kind in ("finished", "half-written status"):
        copy_of(finished, found[kind])
    for kind in ("killed", "running"):
        copy_of(killed_run, found[kind])
    status = found["half-written status"] / NAME
    status.write_bytes(status.read_bytes()[: status.stat().st_size // 2])
    status = found["running"] / NAME
    mine = {"pid": os.getpid(), "process_start": process_start(os.getpid()), "written": time.time()}
    status.write_text(json.dumps(json.loads(status.read_text()) | mine))
    copy_of(OLD_STATES / "version_1", found["of an older version"])
    found["S"], found["L"] = place / "some.xyz", place / "labelled.xyz"
    ase.io.write(found["S"], molecule("H2O"))
    shutil.copy(finished / "data" / "final" / "validation" / "combined.xyz", found["L"])
    return found


def content(folder: Path) -> dict[str, int]:
    """When each file was last written."""
    paths = [folder, *folder.rglob("*")] if folder.exists() else []
    return {str(path): path.stat().st_mtime_ns for path in paths if path.is_file()}


def called(main: Main, argv: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, output and errors; an error that escapes fails the test with its traceback."""
    try:
        code = main(argv)
    except SystemExit as end:  # argparse
        code = end.code if isinstance(end.code, int) else 1
    return code, *capsys.readouterr()


@pytest.mark.parametrize("kind", KINDS)
def test_every_command_on_a_folder(
    kind: str, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    succeed, said, not_tried = KINDS[kind]
    words = {"F": str(folders[kind]), "S": str(folders["S"]), "L": str(folders["L"])}
    lock = FolderLock(folders[kind] / "restart", Path("STOP")) if kind == "running" else None
    with nullcontext() if lock is None else closing(lock):
        for name, (main, arguments) in COMMANDS.items():
            if name in not_tried:
                continue
            before = content(folders[kind])
            argv = [words.get(word, word) for word in arguments.split()]
            code, out, err = called(main, argv, capsys)
            assert code == (DONE if name in succeed else WRONG_INPUT), (name, out, err)
            assert "Traceback" not in out + err, name
            if code == WRONG_INPUT:
                # Names what is wrong, and changes nothing.
                assert words["F"] in err or Path(words["F"]).name in err, (name, err)
                assert content(folders[kind]) == before, name
            if "check" in name:
                assert content(folders[kind]) == before, name
            if name in STATUS:
                assert said in out + err, (name, out, err)


def test_a_run_that_is_there_is_not_begun_anew(
    folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(FolderLock(folders["running"] / "restart", Path("STOP"))):
        code, _, err = called(cli.main, ["--workdir", str(folders["running"])], capsys)
    assert code == WRONG_INPUT and "another run works in this folder" in err
    argv = [str(folders["of an older version"]), "--geometry", str(folders["S"])]
    code, _, err = called(cli.main_init, argv, capsys)
    assert code == WRONG_INPUT and "has restart already" in err


def test_an_evaluation_that_takes_hours_says_so_and_what_takes_less(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_of(folders["finished"], tmp_path / "run")
    status = json.loads((folder / NAME).read_text())
    status["seconds"]["DFT"] = 10.0 * status["labels"]["computed"]
    (folder / NAME).write_text(json.dumps(status))
    argv = ["--workdir", str(folder), "--on", "md", "--check"]
    code, out, _ = called(cli.main_evaluate, argv, capsys)
    assert code == DONE
    # 0.5 fs: 500 fs, 100 structures 20 fs apart, and the start; 10 s each.
    assert "at most 5001 calculations of the engine, 13 h 53 min one after the other" in out
    assert "--structures 20 --spacing 10 --equilibration 100 would take 601, 1 h 40 min" in out


# What is wrong -> a file where a folder is to be, the command, and what it says.
IN_THE_WAY = {
    "restart": ("check", "restart: is a file: expected a folder"),
    "labelled": ("label check", "labelled: is a file: expected a folder"),
    "geometry.in": ("check", "geometry.in: Is a directory"),
    "mace_settings.yaml": ("check", "mace_settings.yaml: is a folder"),
}


@pytest.mark.parametrize("name", IN_THE_WAY)
def test_a_file_for_a_folder_and_a_folder_for_a_file(
    name: str, folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_of(folders["not begun"], tmp_path / "run")
    shutil.rmtree(folder / "labelled", ignore_errors=True)
    if (folder / name).is_file():
        (folder / name).unlink()
        (folder / name).mkdir()
    else:
        (folder / name).write_text("in the way")
    command, message = IN_THE_WAY[name]
    main, arguments = COMMANDS[command]
    words = {"F": str(folder), "S": str(folders["S"])}
    code, _, err = called(main, [words.get(word, word) for word in arguments.split()], capsys)
    assert code == WRONG_INPUT and message in err, err


# Command and arguments -> what is said.  T is an empty folder.
WRONG: dict[str, tuple[Main, str]] = {
    "T: is a folder: expected the name of a file": (cli.main_report, "finished -o T"),
    "S: is a file: expected a folder": (cli.main_evaluate, "--workdir finished --on L -o S"),
    "T: is a folder: expected a file that ASE reads": (cli.main_label, "T --workdir finished"),
    "T: is there, and is not what this command": (cli.main_label, "S --workdir finished -o T"),
    "--on: expected a file with labels, or md": (cli.main_evaluate, "--workdir finished"),
    "S: frame 1": (cli.main_evaluate, "--workdir finished --on S"),
    "--structures 0: expected more than 0": (
        cli.main_evaluate,
        "--workdir finished --on md --structures 0",
    ),
    "--interval 0: expected a number above 0": (cli.main_status, "--interval 0"),
    "expected a temperature above 0 K": (cli.main_init, "T --geometry S --temperature warm"),
    "expected a number of cells, at least 1": (cli.main_init, "T --geometry S --supercell 0"),
    "invalid choice: 'ksh'": (cli.main_completion, "ksh"),
    "unknown key ACTIVE_LEARNING.c_y": (
        cli.main,
        "--workdir finished --check --set ACTIVE_LEARNING.c_y=1",
    ),
    "--elements Xx: not in geometry.in": (
        cli.main_atomic_energies,
        "--workdir finished --elements Xx",
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_are_named(
    message: str, folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main, arguments = WRONG[message]
    words = {"T": str(tmp_path), **{key: str(path) for key, path in folders.items()}}
    code, _, err = called(main, [words.get(word, word) for word in arguments.split()], capsys)
    expected = re.sub("^([TSL]):", lambda found: f"{words[found[1]]}:", message)
    assert code == WRONG_INPUT and expected in err, err


def scripts() -> Iterator[Any]:
    """All commands of the package."""
    yield from distribution("fhi-al").entry_points.select(group="console_scripts")


@pytest.mark.parametrize("script", scripts(), ids=lambda script: script.name)
def test_the_help_of_a_command_has_an_example(
    script: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = called(script.load(), ["--help"], capsys)
    assert code == DONE and not err
    assert out.startswith(f"usage: {script.name} ")
    assert re.search(rf"^example.*:\n(  .*\n)*.*\b{script.name}\b", out, re.MULTILINE), out
    assert called(script.load(), ["--version"], capsys)[1].startswith(f"{script.name} ")
