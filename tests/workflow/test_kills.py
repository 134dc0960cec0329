"""Killed or asked to stop at seeded moments, a run ends as the unbroken one, to the last bit.

A moment is a number of labels and journal entries on the disk, plus a delay; or a time since the
start, which may fall into start-up and restoring.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from run_folder import (
    LONG,
    assert_same_end,
    copy_of,
    finish,
    kill_all,
    labels,
    progress,
    ranks_of,
    start,
    succeed,
    wait_until,
    write_inputs,
)

pytestmark = [pytest.mark.mpi, pytest.mark.real]

PHASES = ("initial dataset", "active learning", "final convergence")
LONGEST_DELAY_S = 0.1
START_UP_S = 4.0
KILLS_BY_PROGRESS, KILLS_BY_TIME, SIGTERMS = range(80), range(20), range(10)


def progress_in(phase: str, unbroken: Path) -> tuple[int, int]:
    """The progress with which a run enters and leaves a phase."""
    lines = (unbroken / "restart" / "journal.jsonl").read_text().splitlines()
    names = [json.loads(line).get("phase", "active learning") for line in lines]
    n_labels = len(labels(unbroken))
    n_initial = sum(label["origin"]["phase"] == "initial" for label in labels(unbroken))
    first_al, first_final = names.index("active learning"), names.index("final convergence")
    bounds = (0, n_initial + first_al, n_labels + first_final, n_labels + len(lines))
    index = PHASES.index(phase)
    return bounds[index], bounds[index + 1]


def moments(phase: str, unbroken: Path, n_moments: int, generator: random.Random) -> list[int]:
    """Seeded values of the progress, one in each of ``n_moments`` equal parts of a phase."""
    first, last = progress_in(phase, unbroken)
    # Behind the last entries there may be nothing left to interrupt.
    part = 0.85 * (last - first) / n_moments
    return [first + 1 + int(part * (n + generator.random())) for n in range(n_moments)]


def wait_for_progress(job: subprocess.Popen[str], folder: Path, target: int) -> None:
    wait_until(job, lambda: progress(folder) >= target, f"{target} labels and journal entries")


def long_run(
    folder: Path, asi_library: Path, models: str = "pair", training_ranks: str | int = "auto"
) -> Path:
    """Inputs; by default all ranks train."""
    changes = {**LONG, "training_ranks": training_ranks}
    return write_inputs(
        folder,
        asi_library=asi_library,
        active_learning={"ACTIVE_LEARNING": changes},
        models=models,
    )


def other_than(ranks: int, generator: random.Random) -> int:
    """Another number of ranks."""
    return generator.choice([n for n in (1, 2, 3) if n != ranks])


def n_calls(log: Path) -> int:
    return len(log.read_text().splitlines())


@pytest.mark.parametrize("phase", PHASES)
def test_killed_five_times_in_a_phase(finished_run, asi_library, tmp_path, phase: str) -> None:
    unbroken = finished_run("asi", 1, long=True)
    generator = random.Random(f"five kills in {phase}")
    # Where labels are most of the work three ranks share it; two train as well.
    n_ranks, training_ranks = (3, 1) if phase == PHASES[0] else (2, "auto")
    folder = long_run(tmp_path / "run", asi_library, training_ranks=training_ranks)
    log = tmp_path / "calls.txt"
    first, last = progress_in(phase, unbroken)
    for n, moment in enumerate(moments(phase, unbroken, 4, generator)):
        if n == 2:  # one more, while the program starts or reads its snapshot
            job = start(folder, 2, env={"ASI_LOG": str(log)}, preload=False)
            time.sleep(generator.uniform(0.1, START_UP_S))
            kill_all(job)
        target = max(moment, progress(folder) + 1)
        before = copy_of(folder, tmp_path / f"before_{n}")
        calls = log.read_text() if log.exists() else ""
        for longest_delay_s in (LONGEST_DELAY_S, 0.0, 0.0):
            job = start(folder, 1 + n % n_ranks, env={"ASI_LOG": str(log)})
            wait_for_progress(job, folder, target)
            time.sleep(generator.uniform(0, longest_delay_s))
            assert job.poll() is None, finish(job)[1]
            kill_all(job)
            assert not ranks_of(folder)
            if progress(folder) <= last:
                break
            # The machine was busy and the kill came when the phase was over: once more.
            shutil.rmtree(folder)
            copy_of(before, folder)
            log.write_text(calls)
        assert first < progress(folder) <= last
    succeed(folder, n_ranks, env={"ASI_LOG": str(log)})
    assert_same_end(folder, unbroken)
    # At most the call in flight is repeated.
    assert len(labels(folder)) <= n_calls(log) <= len(labels(folder)) + 5


@pytest.mark.slow
@pytest.mark.parametrize("seed", KILLS_BY_PROGRESS)
def test_killed_once_in_any_phase(finished_run, asi_library, tmp_path, seed: int) -> None:
    models = "pair" if seed % 4 else "mace"
    unbroken = finished_run("asi", 1, long=True, models=models)
    generator = random.Random(f"killed by progress {seed}")
    folder = long_run(tmp_path / "run", asi_library, models)
    (moment,) = moments(PHASES[seed % 3], unbroken, 1, generator)
    job = start(folder, 1 + seed % 3)
    wait_for_progress(job, folder, moment)
    time.sleep(generator.uniform(0, LONGEST_DELAY_S))
    kill_all(job)
    assert not ranks_of(folder)
    succeed(folder, other_than(1 + seed % 3, generator))
    assert_same_end(folder, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("seed", KILLS_BY_TIME)
def test_killed_some_time_after_the_start(finished_run, asi_library, tmp_path, seed: int) -> None:
    unbroken = finished_run("asi", 1, long=True)
    generator = random.Random(f"killed by time {seed}")
    folder = long_run(tmp_path / "run", asi_library)
    latest_s = 25.0
    if seed % 2:  # a run that has something to restore, killed within or soon after that
        latest_s = 1.5 * START_UP_S
        (moment,) = moments("active learning", unbroken, 1, generator)
        job = start(folder, 2)
        wait_for_progress(job, folder, moment)
        kill_all(job)
    job = start(folder, 1 + seed % 3, preload=False)
    time.sleep(generator.uniform(0.1, latest_s))
    kill_all(job)
    assert not ranks_of(folder)
    succeed(folder, other_than(1 + seed % 3, generator))
    assert_same_end(folder, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SIGTERMS)
def test_asked_to_stop_in_any_phase(finished_run, asi_library, tmp_path, seed: int) -> None:
    unbroken = finished_run("asi", 1, long=True)
    generator = random.Random(f"asked to stop {seed}")
    folder = long_run(tmp_path / "run", asi_library)
    phase = PHASES[seed % 3]
    (moment,) = moments(phase, unbroken, 1, generator)
    job = start(folder, 1 + seed % 3)
    wait_for_progress(job, folder, moment)
    time.sleep(generator.uniform(0, LONGEST_DELAY_S))
    job.send_signal(signal.SIGTERM)
    code, output = finish(job, timeout_s=60)
    assert code in (0, 3), output
    assert "Traceback" not in output
    if code == 3:
        assert "run the same command again to continue" in output
    succeed(folder, other_than(1 + seed % 3, generator))
    assert_same_end(folder, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_asked_to_stop_while_it_restores(finished_run, asi_library, tmp_path, seed: int) -> None:
    """Whether it hears that or dies of it, nothing is lost."""
    unbroken = finished_run("asi", 1, long=True)
    generator = random.Random(f"asked to stop early {seed}")
    folder = long_run(tmp_path / "run", asi_library)
    (moment,) = moments("active learning", unbroken, 1, generator)
    job = start(folder, 2)
    wait_for_progress(job, folder, moment)
    kill_all(job)
    n_labels = len(labels(folder))
    job = start(folder, 2, preload=False)
    time.sleep(generator.uniform(0.1, START_UP_S))
    job.send_signal(signal.SIGTERM)
    code, output = finish(job, timeout_s=60)
    assert code != 0, output
    assert not ranks_of(folder)
    assert len(labels(folder)) >= n_labels
    succeed(folder, 1)
    assert_same_end(folder, unbroken)
