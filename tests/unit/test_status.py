"""What a run is at, who is told, and how a folder looks to whoever watches."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from label_parts import some_label, some_rejected

from fhi_al.cli import main_status
from fhi_al.core.convergence import ConvergenceState, Course
from fhi_al.core.run_state import (
    FinalTestState,
    Frame,
    PendingPoint,
    RunState,
    SamplingState,
    Stage,
)
from fhi_al.core.trajectory import TrajectoryState
from fhi_al.report.clock import TRAINING, Clock
from fhi_al.report.command_status import CommandProgress, CommandStatusSource
from fhi_al.report.observer import Observer
from fhi_al.report.run_status import Targets, TimeLeft, bars_of, force_mae_of, labels_of
from fhi_al.report.status import Bar, Status
from fhi_al.report.status_file import NAME, Launch, StatusFile, duration, look_at, process_start
from fhi_al.report.status_view import view

TARGETS = Targets(
    force_mae=0.02,
    label_budget=60,
    points_per_round=18,
    max_initial_epochs=100,
    max_final_epochs=200,
    max_md_steps=2400,
    converges=True,
    fewest_atoms=9,
)
SAMPLING = RunState(
    sampling=SamplingState(
        rounds=1,
        epochs=20,
        points=("a", "b"),
        pending=(PendingPoint(None, Frame(0, (), ())),),
        mae_forces=0.3,
    )
)
CONVERGING = RunState(
    stage=Stage.FINAL_CONVERGENCE,
    convergence=ConvergenceState((0, 1), Course.begun(40, 0.05, 0.001), ()),
)
STATUS = Status("active learning", "MD", (Bar("labels", 43, 60),), {"computed": 43}, 0.0388, 0.02)


def test_the_bars_of_sampling_are_points_labels_and_epochs() -> None:
    assert bars_of(SAMPLING, 21, TARGETS) == (
        Bar("sampling, round 2", 3, 18, ends_stage=False),
        Bar("labels", 21, 60, ends_stage=False),
        Bar("epochs", 20, 100),
    )
    assert force_mae_of(SAMPLING) == 0.3


def test_no_bar_of_sampling_while_training_goes_on_without_new_points() -> None:
    trains = RunState(sampling=SamplingState(rounds=3, epochs=30, helped=True))
    assert [bar.name for bar in bars_of(trains, 18, TARGETS)] == ["labels", "epochs"]
    samples = RunState(sampling=SamplingState(rounds=3, epochs=30))
    assert bars_of(samples, 18, TARGETS)[0] == Bar("sampling, round 4", 0, 18, ends_stage=False)


def test_the_bar_of_a_convergence_are_its_epochs() -> None:
    assert bars_of(CONVERGING, 60, TARGETS) == (Bar("epochs", 40, 200),)
    assert force_mae_of(CONVERGING) == 0.05


def test_the_bars_of_a_final_test_are_blocks_of_md_and_labels() -> None:
    trajectories = tuple(TrajectoryState(index) for index in range(2))
    test = FinalTestState(6, trajectories, blocks=12, labelled=(("a", 0.1),))
    state = RunState(stage=Stage.FINAL_TEST, final_test=test)
    # 10 before the first structure, then 450 atoms / 9 / 2 trajectories.
    bars = (Bar("blocks of MD", 12, 35, ends_stage=False), Bar("labels of the test", 1, 6))
    assert bars_of(state, 60, TARGETS) == bars


def test_labels_are_counted_by_what_asked_for_them() -> None:
    records = [some_label(1), some_label(2), some_rejected(3)]
    assert labels_of(SAMPLING, records) == {
        "computed": 3,
        "discarded": 1,
        "imported": 0,
        "waiting": 1,
        "active_learning": 3,
    }


def test_the_time_left_is_what_the_rate_of_this_launch_says() -> None:
    left = TimeLeft()
    # 40 epochs were trained by an earlier launch: they say nothing of this one.
    assert left.seconds(CONVERGING, (Bar("epochs", 40, 200),), TARGETS, Clock(), 1000.0) is None
    # 20 epochs in 10 s, 140 are left.
    bars = (Bar("epochs", 60, 200),)
    assert left.seconds(CONVERGING, bars, TARGETS, Clock(), 1010.0) == pytest.approx(70.0)
    done = RunState(stage=Stage.DONE)
    assert left.seconds(done, (), TARGETS, Clock(), 1020.0) == 0.0


def test_what_a_thread_asks_the_clock_books_nothing() -> None:
    clock = Clock()
    with clock.section(TRAINING):
        assert clock.activity == TRAINING
        first = clock.seconds()[TRAINING]
        assert clock.seconds()[TRAINING] >= first > 0
        assert clock._seconds[TRAINING] == 0.0
    assert clock._seconds[TRAINING] > 0


class Recording:
    """A display that remembers, or cannot."""

    interval_s = 0.01

    def __init__(self, breaks: bool = False) -> None:
        self.breaks = breaks
        self.shown: list[Status] = []
        self.ended: list[tuple[str, str]] = []

    def show(self, status: Status) -> None:
        self.shown.append(status)
        if self.breaks:
            raise OSError("no space left")

    def end(self, status: Status, outcome: str, message: str) -> None:
        self.ended.append((outcome, message))


def test_an_observer_shows_until_it_is_closed_whatever_fails() -> None:
    n_asked = 0

    def status(now: float) -> Status:
        nonlocal n_asked
        n_asked += 1
        if n_asked == 2:
            raise RuntimeError("dictionary changed size during iteration")
        return STATUS

    broken, good = Recording(breaks=True), Recording()
    observer = Observer(status, [broken, good])
    observer.start()
    while len(good.shown) < 3:
        time.sleep(0.001)
    observer.close("stopped", "SIGTERM")
    n_shown = len(good.shown)
    time.sleep(0.03)
    assert len(good.shown) == n_shown
    assert good.ended == broken.ended == [("stopped", "SIGTERM")]
    assert len(broken.shown) >= 3


def test_a_command_is_told_by_its_own_bars_and_has_no_models(tmp_path: Path) -> None:
    progress, records = CommandProgress(), [some_label(1), some_rejected(2)]
    source = CommandStatusSource(progress, Clock(), lambda: records, lambda: ())
    file = StatusFile(tmp_path, Launch("FHI_AL-label", "some.xyz", 1, time.time()))

    def shown(after_s: float) -> str:
        file.write(source.status(time.monotonic() + after_s), "running")
        return view([look_at(tmp_path, time.time())], time.time(), width=100, colors=False)

    progress.begin("labels", Bar("structures", 2, 12), is_last=True)
    assert "time left: not known yet" in shown(0.0)
    # 4 in 100 s, and 6 are left.
    progress.reach("structures", 6)
    text = shown(100.0)
    assert "some.xyz, labels: running" in text and "6 of 12 (50 %)" in text
    assert "time left: at most 2 min 30 s" in text and "now: labels" in text
    assert "labels: 2 computed, 1 discarded" in text and "MAE" not in text
    progress.begin("check: eos", Bar("checks", 1, 3))
    assert "time left of this stage: not known yet" in shown(1.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a run of this process that goes on."""
    run = tmp_path / "run"
    run.mkdir()
    StatusFile(run, Launch("FHI_AL", "water", 2, time.time() - 90.0)).write(STATUS, "running")
    assert [path.name for path in run.iterdir()] == [NAME]
    return run


def label_counts(n: int) -> dict[str, int]:
    return {"computed": n, "discarded": 0, "imported": 0, "waiting": 0}


def changed(folder: Path, **values: Any) -> Path:
    content = json.loads((folder / NAME).read_text())
    (folder / NAME).write_text(json.dumps(content | values))
    return folder


def condition(folder: Path) -> str:
    return look_at(folder, time.time()).condition


def test_a_run_whose_process_is_there_goes_on(folder: Path) -> None:
    assert condition(folder) == "running"


def test_a_run_whose_process_is_gone_was_killed(folder: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert process_start(ended.pid) is None
    assert condition(changed(folder, pid=ended.pid)) == "killed"
    # Another process has its number now.
    assert condition(changed(folder, pid=os.getpid(), process_start=1)) == "killed"


def test_on_another_host_silence_says_that_a_run_was_killed(folder: Path) -> None:
    assert condition(changed(folder, host=f"not-{socket.gethostname()}")) == "running"
    seen = look_at(folder, time.time() + 3600.0)
    assert seen.condition == "killed"
    assert "no sign of life on not-" in seen.message and "1 h 00 min ago" in seen.message


@pytest.mark.parametrize("outcome", ["finished", "stopped", "failed"])
def test_how_a_run_ended_is_what_it_says(folder: Path, outcome: str) -> None:
    assert condition(changed(folder, state=outcome, pid=1, message="why")) == outcome
    assert look_at(folder, time.time()).message == "why"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format": 99}', b'{"format": 1}', b"\xff"]
)
def test_a_damaged_status_is_no_error(folder: Path, content: bytes) -> None:
    (folder / NAME).write_bytes(content)
    assert condition(folder) == "unknown"


def test_folders_without_a_run(tmp_path: Path) -> None:
    assert look_at(tmp_path / "nix", 0.0).message == "no such folder"
    assert look_at(tmp_path, 0.0).message == "no folder of FHI_AL"
    (tmp_path / "active_learning_settings.yaml").touch()
    assert look_at(tmp_path, 0.0).message == "not begun"
    (tmp_path / "restart").mkdir()
    (tmp_path / "restart" / "lock").touch()
    assert condition(tmp_path) == "unknown"


def test_several_runs_are_a_table_and_one_is_told(folder: Path) -> None:
    changed(folder, labels={"computed": 43, "discarded": 1, "imported": 0, "waiting": 2})
    run = look_at(folder, time.time())
    now = run.content["started"] + 90.0
    one = view([run], now, width=100, colors=False)
    assert "water, active learning: running" in one
    assert "labels               [#################-------] 43 of 60 (72 %)" in one
    assert "labels: 43 computed, 1 discarded, 2 waiting" in one
    assert "force MAE on validation: 38.8 meV/A, target 20.0 meV/A" in one
    head, *rows = view([run, run], now, width=200, colors=False).splitlines()
    assert head.split()[:4] == ["folder", "state", "stage", "progress"]
    assert len(rows) == 2
    for words in ("running", "72 % of labels", "43 of 60", "38.8 meV/A", "1 min 30 s ago"):
        assert words in rows[0]


def test_the_command_looks_at_folders_and_at_folders_of_folders(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(folder, labels=label_counts(1))
    assert main_status([str(folder)]) == 0
    assert "running" in capsys.readouterr().out
    assert main_status([str(folder.parent), "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)
    assert run["condition"] == "running" and run["labels"]["computed"] == 1
    # Of a pattern that fits files, too, the folders count.
    (folder.parent / "notes.txt").touch()
    assert main_status([str(folder), str(folder.parent / "notes.txt")]) == 0
    assert "notes.txt" not in capsys.readouterr().out
    # What labels and evaluates beside the run is told with it.
    (folder / "labelled").mkdir()
    beside = Launch("FHI_AL-label", "some.xyz", 1, time.time())
    labelling = Status("labels", "DFT", (), label_counts(3), None, 0.0, trains=False)
    StatusFile(folder / "labelled", beside).write(labelling, "finished")
    for place in (folder, folder.parent):
        assert main_status([str(place)]) == 0
        text = capsys.readouterr().out
        assert "water, active learning: running" in text and "some.xyz, labels: finished" in text
    # It follows as long as a run goes on.
    changed(folder, state="finished")
    assert main_status([str(folder), "--watch"]) == 0
    assert main_status([str(folder / "nix")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_times_are_readable() -> None:
    assert [duration(s) for s in (0.4, 61, 7325, 200_000)] == [
        "0 s",
        "1 min 01 s",
        "2 h 02 min",
        "2 d 7 h",
    ]
