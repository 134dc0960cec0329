"""Labels in the background: every layout ends, and nothing is lost, doubled or left to chance.

Labels of the ASI library sleep before they compute, so that they arrive while others are waited
for; which one arrives when is up to the machine, and recorded.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from run_folder import (
    SHORT,
    datasets,
    final_weights,
    finish,
    in_flight,
    journal,
    kill_all,
    labels,
    rank_number,
    ranks_of,
    run,
    start,
    succeed,
    tables,
    wait_for_labels,
    wait_until,
    write_inputs,
)

pytestmark = [pytest.mark.mpi, pytest.mark.real]

SLOW = {"ASI_SLEEP_MS": "60"}
PARALLEL: dict[str, Any] = {
    "parallel": True,
    "training_ranks": "auto",
    "num_trajectories": 4,
    "skip_step_initial": 2,
    "max_MD_steps": 30,
}
# Another tight-binding method: a real foundation model would take longer to load than all else.
FOUNDATION: dict[str, Any] = {
    **PARALLEL,
    "initial_sampling": "foundation",
    "foundation_calculator": "tblite.ase.TBLite",
    "foundation_arguments": {"method": "GFN1-xTB", "verbosity": 0},
}


def parallel_run(
    folder: Path, asi_library: Path | None = None, models: str = "pair", **changes: Any
) -> Path:
    settings = {**PARALLEL, **changes}
    return write_inputs(
        folder,
        asi_library=asi_library,
        active_learning={"ACTIVE_LEARNING": settings},
        models=models,
    )


def newest_state(folder: Path) -> dict[str, Any]:
    newest = max((folder / "restart").glob("snapshot-*"))
    state: dict[str, Any] = json.loads((newest / "run.json").read_text())["state"]
    return state


def seen(folder: Path) -> list[str]:
    """Labels in the order in which the run saw them arrive."""
    lines = (folder / "restart" / "order.jsonl").read_text().splitlines()
    found = [key for line in lines for key in json.loads(line).get("found", [])]
    return [key for key in found if key != "training"]


def assert_every_label_counts(folder: Path) -> None:
    """None doubled; each that active learning paid for was seen, once, and taken into account."""
    records = labels(folder)
    assert len({record["key"] for record in records}) == len(records)
    arrived = Counter(seen(folder))
    assert set(arrived.values()) == {1}
    later = {record["key"] for record in records if record["origin"]["phase"] != "initial"}
    assert later <= set(arrived)
    points = [record for record in records if record["origin"]["phase"] == "active_learning"]
    joined = sum(entry["joined"] for entry in journal(folder, "sanity"))
    (last,) = journal(folder, "ensemble")[-1:]
    in_sets = last["n_training"] + last["n_validation"]
    assert in_sets - last_initial_size(folder) >= len(points) >= 1
    assert joined <= len(points)


def last_initial_size(folder: Path) -> int:
    """Points of one member at the end of the initial dataset."""
    (last,) = [e for e in journal(folder, "ensemble") if e["phase"] == "initial"][-1:]
    return int(last["n_training"] + last["n_validation"])


def assert_repeats(folder: Path, again: Path, ranks: int) -> None:
    """A fresh run that is given labels and order of another ends as that, to the last bit."""
    for name in ("control.in", "geometry.in", "mace_settings.yaml", "species"):
        if (folder / name).is_dir():
            shutil.copytree(folder / name, again / name)
        elif (folder / name).exists():
            again.mkdir(exist_ok=True)
            shutil.copy(folder / name, again / name)
    shutil.copy(folder / "active_learning_settings.yaml", again)
    (again / "restart").mkdir()
    for name in ("labels.jsonl", "order.jsonl"):
        shutil.copy(folder / "restart" / name, again / "restart")
    succeed(again, ranks)
    assert (again / "restart" / "labels.jsonl").read_bytes() == (
        folder / "restart" / "labels.jsonl"
    ).read_bytes()
    assert journal(again, "check") == journal(folder, "check")
    assert journal(again, "epoch") == journal(folder, "epoch")
    assert datasets(again) == datasets(folder)
    assert tables(again) == tables(folder)
    assert final_weights(again) == final_weights(folder)


LAYOUTS = [
    (1, "tblite", "pair", {}),
    (2, "asi", "pair", {}),
    (3, "tblite", "mace", {"training_ranks": 2}),
    (4, "asi", "pair", {"reference_groups": 3, "training_ranks": 1}),
    (6, "asi", "pair", {"training_ranks": 2, "reference_groups": 2}),
]


@pytest.mark.parametrize(("ranks", "engine", "models", "how"), LAYOUTS)
def test_every_layout_comes_to_its_end(asi_library, tmp_path, ranks, engine, models, how) -> None:
    library = asi_library if engine == "asi" else None
    folder = parallel_run(tmp_path / "run", library, models, max_MD_steps=15, **how)
    output = succeed(folder, ranks)
    assert "summary: stage: done" in output
    assert output.count("layout: rank") >= 1
    (idle,) = [line for line in output.splitlines() if "idle in this launch" in line]
    assert idle.count("%") >= min(ranks, 2)
    assert_every_label_counts(folder)
    assert not ranks_of(folder)


def assert_same_run(folder: Path, other: Path) -> None:
    """Labels, MD, training and the models that came of them are the same, bit for bit."""
    for name in ("check", "epoch", "ensemble"):
        assert journal(folder, name) == journal(other, name)
    assert labels(folder) == labels(other)
    assert datasets(folder) == datasets(other)
    assert final_weights(folder) == final_weights(other)


def test_ranks_that_label_together_train_and_change_no_bit(
    finished_run, asi_library, tmp_path
) -> None:
    folder = write_inputs(
        tmp_path / "run",
        asi_library=asi_library,
        active_learning={"ACTIVE_LEARNING": {"training_ranks": 2}},
    )
    assert "rank 1: training, labels;" in succeed(folder, 3)
    assert_same_run(folder, finished_run("asi", 1))


def test_ranks_that_would_do_nothing_train_and_change_no_bit(tmp_path) -> None:
    def folder(name: str, **changes: Any) -> Path:
        changes = {
            **SHORT,
            "ensemble_size": 3,
            "training_ranks": "auto",
            "max_MD_steps": 30,
            **changes,
        }
        return write_inputs(tmp_path / name, active_learning={"ACTIVE_LEARNING": changes})

    alone, together = folder("alone"), folder("together", training_ranks=3)
    succeed(alone, 1)
    assert "ranks 1-2: training;" in succeed(together, 3, command="FHI_AL-initial-ds")
    # The number of ranks is no part of what a run goes on from.
    folder("together")  # training_ranks: auto again
    output = succeed(together, 2, command="FHI_AL-al")
    if len(os.sched_getaffinity(0)) > 1:
        assert "rank 1: training;" in output
        (idle,) = re.findall(r"rank 1 \(training: (\d+) %\)", output)
        assert int(idle) < 100
    assert_same_run(together, alone)


def test_more_ranks_asked_for_than_there_are(tmp_path) -> None:
    folder = parallel_run(tmp_path / "run", models="mace", reference_groups=2)
    code, output = run(folder, 2)
    assert code == 2
    assert "active_learning_settings.yaml" in output
    assert "ACTIVE_LEARNING.reference_groups = 2" in output
    assert "1 of 2 ranks" in output


def test_a_check_on_one_rank_is_no_run_on_one_rank(tmp_path) -> None:
    """On a login node nobody has the ranks of the job."""
    folder = parallel_run(tmp_path / "run", models="mace", training_ranks=4)
    output = succeed(folder, 1, "--check")
    assert "this check has one rank, the run needs more" in output
    assert "rank 5: labels (group 2)" in succeed(folder, 6, "--check")
    code, _ = run(folder, 2, "--check")
    assert code == 2


def test_the_recorded_order_reproduces_a_run(asi_library, tmp_path) -> None:
    folder = parallel_run(tmp_path / "run", asi_library)
    output = succeed(folder, 3, env=SLOW)
    # Something was going on meanwhile: training, of the round before, and in active learning.
    assert "ranks 1-2 (labels (group 1)" in output
    assert_every_label_counts(folder)
    assert_repeats(folder, tmp_path / "again", 1)


def test_the_recorded_order_reproduces_a_sampling_with_a_foundation_model(
    asi_library, tmp_path
) -> None:
    folder = parallel_run(tmp_path / "run", asi_library, **FOUNDATION, reference_groups=2)
    succeed(folder, 3, env=SLOW)
    assert_every_label_counts(folder)
    phases = Counter(record["origin"]["phase"] for record in labels(folder))
    assert phases["initial"] >= 20
    assert_repeats(folder, tmp_path / "again", 4)


def test_the_recorded_order_reproduces_a_run_that_has_a_budget(asi_library, tmp_path) -> None:
    """A label counts when the run sees it, not when it is stored: all are there from the start."""
    changes = {"label_budget": 30, "n_samples": 3, "intermediate_gain": None, "final_test": "auto"}
    changes |= {"max_initial_epochs": 50, "max_MD_steps": None, "c_x": 0.9, "reference_groups": 2}
    folder = parallel_run(tmp_path / "run", asi_library, **{**FOUNDATION, **changes})
    output = succeed(folder, 3, env=SLOW)
    assert "(label_budget = 30, less 3 for the final test)" in output
    assert len(labels(folder)) == 30
    assert_repeats(folder, tmp_path / "again", 4)


def kill_and_resume(folder: Path, n_kills: int, seed: str) -> None:
    """Kill a run at seeded numbers of labels, resume it each time on other ranks, to the end."""
    generator = random.Random(seed)
    killed: set[str] = set()
    for n in range(n_kills):
        target = len(killed) + generator.randint(2, 7)
        job = start(folder, 3 + n % 2, env=SLOW)
        wait_for_labels(job, folder, target)
        time.sleep(generator.uniform(0, 0.5))
        kill_all(job)
        assert not ranks_of(folder)
        found = {record["key"] for record in labels(folder)}
        assert killed <= found
        killed = found
    succeed(folder, 3, env=SLOW)
    final = [record["key"] for record in labels(folder)]
    assert killed <= set(final)
    assert len(set(final)) == len(final)


@pytest.mark.parametrize("sampling", ["aimd", "foundation"])
def test_killed_runs_lose_and_double_no_label(asi_library, tmp_path, sampling) -> None:
    more = FOUNDATION if sampling == "foundation" else {"n_samples": 3}
    folder = parallel_run(tmp_path / "run", asi_library, **more)
    kill_and_resume(folder, 2, f"two kills, {sampling}")
    assert_every_label_counts(folder)
    assert_repeats(folder, tmp_path / "again", 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_killed_twenty_times(asi_library, tmp_path, seed) -> None:
    more = FOUNDATION if seed % 2 else {"n_samples": 3}
    folder = parallel_run(tmp_path / "run", asi_library, **more, reference_groups=1 + seed // 4)
    kill_and_resume(folder, 4, f"twenty kills {seed}")
    assert_every_label_counts(folder)


def test_asked_to_stop_it_keeps_the_labels_under_way(asi_library, tmp_path) -> None:
    folder = parallel_run(tmp_path / "run", asi_library, n_samples=2, reference_groups=2)
    job = start(folder, 3, env={"ASI_SLEEP_MS": "1000"})
    # Of a point's two MD steps the first has its label, the second is under way.
    wait_for_labels(job, folder, 4)
    n_before = len(labels(folder))
    job.send_signal(signal.SIGTERM)
    code, output = finish(job, timeout_s=60)
    assert code == 3, output
    assert "waiting for" in output and "under way" in output
    assert len(labels(folder)) > n_before
    succeed(folder, 4)
    assert_every_label_counts(folder)


def test_without_a_rank_for_labels_a_stop_is_heard_before_the_next_label(
    asi_library, tmp_path
) -> None:
    folder = parallel_run(
        tmp_path / "run", asi_library, n_samples=2, num_trajectories=8, threshold_warmup=4
    )
    succeed(folder, 1, command="FHI_AL-initial-ds")
    n_initial = len(labels(folder))
    # Now several trajectories wait for labels at a time, and rank 0 computes them.
    job = start(folder, 1, env={"ASI_SLEEP_MS": "1000"})
    wait_for_labels(job, folder, n_initial + 2)
    job.send_signal(signal.SIGUSR1)
    code, output = finish(job, timeout_s=60)
    assert code == 3, output
    assert len(labels(folder)) <= n_initial + 4  # one under way, one begun before the signal came
    active = newest_state(folder)["active"]
    assert len(active["pending"]) > 1
    succeed(folder, 1)
    assert_every_label_counts(folder)
    assert_repeats(folder, tmp_path / "again", 1)


def test_the_engine_of_one_group_dies_on_a_structure(asi_library, tmp_path) -> None:
    """The others' structures, in flight too, are not held responsible."""
    folder = parallel_run(
        tmp_path / "run", asi_library, **FOUNDATION, reference_groups=2, n_samples=2
    )
    # Groups of two ranks and of one: only the first has a second rank to die on.
    death = {"ASI_SLEEP_MS": "500", "ASI_EXIT_AT": "2", "ASI_DIE_ON": "1"}
    code, output = run(folder, 4, env=death)
    assert code not in (0, 2, 3), output
    under_way = in_flight(folder)
    assert sorted(under_way.values()) == [[1, 2], [3]]
    output = succeed(folder, 1)
    message = "the reference engine died on structure"
    (guilty,) = [key for key in under_way if f"{message} {key}" in output]
    assert under_way[guilty] == [1, 2]
    assert_every_label_counts(folder)
    assert not (folder / "restart" / "in_flight.json").exists()


@pytest.mark.parametrize("train_on", [True, False])
def test_while_all_wait_the_members_train_on_if_they_may(asi_library, tmp_path, train_on) -> None:
    folder = parallel_run(
        tmp_path / "run",
        asi_library,
        n_samples=2,
        num_trajectories=2,
        max_MD_steps=15,
        train_while_waiting=train_on,
    )
    succeed(folder, 2, command="FHI_AL-initial-ds")
    succeed(folder, 2, env={"ASI_SLEEP_MS": "600"})
    log = (folder / "AL.log").read_text()
    assert ("while all trajectories wait" in log) is train_on
    # An epoch at a time: a label that arrives is not kept waiting for a whole round.
    assert log.count("trained 1 epochs while all trajectories wait") == log.count(
        "while all trajectories wait"
    )


def test_switched_back_to_serial_a_run_goes_on(asi_library, tmp_path) -> None:
    folder = parallel_run(tmp_path / "run", asi_library, **FOUNDATION)
    job = start(folder, 3, env=SLOW)
    wait_for_labels(job, folder, 25)
    kill_all(job)
    before = {record["key"] for record in labels(folder)}
    settings = folder / "active_learning_settings.yaml"
    settings.write_text(settings.read_text().replace("parallel: true", "parallel: false"))
    succeed(folder, 2)
    final = [record["key"] for record in labels(folder)]
    assert before <= set(final) and len(set(final)) == len(final)


def test_labels_as_jobs_of_their_own_survive_the_driver(tmp_path) -> None:
    """Parsl's local workers; the driver is killed once, and finds what they had finished."""
    folder = parallel_run(
        tmp_path / "run",
        **{**FOUNDATION, "n_samples": 3, "max_MD_steps": 15},
        reference_engine="tblite",
        cluster={"provider": "local", "workers_per_node": 2},
    )
    job = start(folder, 1)
    wait_for_labels(job, folder, 4)
    kill_all(job)
    before = {record["key"] for record in labels(folder)}
    output = succeed(folder, 2)
    assert "layout: labels: jobs on a cluster (local)" in output
    assert before <= {record["key"] for record in labels(folder)}
    finished = {path.parent.name for path in (folder / "cluster").glob("*/result.json")}
    assert {record["key"] for record in labels(folder)} <= finished
    assert_every_label_counts(folder)


def test_points_that_the_ensemble_has_learnt_are_taken_back(asi_library, tmp_path) -> None:
    """While the first label is computed, members that had hardly begun train on and agree."""
    barely_trained = {"max_initial_epochs": 2, "intermediate_epochs": 2, "n_samples": 2}
    eager = {"num_trajectories": 6, "max_epochs_worker": 60, "threshold_warmup": 6}
    folder = parallel_run(
        tmp_path / "run",
        asi_library,
        **{**FOUNDATION, **barely_trained, **eager, "analysis": False},
    )
    succeed(folder, 2, command="FHI_AL-initial-ds")
    job = start(folder, 2, env={"ASI_SLEEP_MS": "6000"})
    log = folder / "AL.log"
    message = "the ensemble has learnt the point meanwhile"
    wait_until(job, lambda: log.exists() and message in log.read_text(), "points taken back")
    job.send_signal(signal.SIGTERM)
    code, output = finish(job, timeout_s=60)
    assert code == 3, output
    (back, *_) = [line for line in output.splitlines() if message in line]
    trajectory, step = re.search(r"trajectory (\d+), MD step (\d+)", back).groups()  # type: ignore[union-attr]
    pending = {(r["origin"]["trajectory"], r["origin"]["step"]) for r in labels(folder)[-3:]}
    assert (int(trajectory), int(step)) not in pending


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_a_launcher_that_binds_too_tightly_is_overruled(tmp_path) -> None:
    folder = write_inputs(
        tmp_path / "run",
        mace={"MISC": {"num_threads": 2}},
        active_learning={"ACTIVE_LEARNING": {"n_samples": 2, "max_initial_epochs": 5}},
    )
    job = start(
        folder, 2, command="FHI_AL-initial-ds", env={"HYDRA_BINDING": "core"}, preload=False
    )
    wait_for_labels(job, folder, 1)
    allowed = {rank_number(rank): len(os.sched_getaffinity(rank)) for rank in ranks_of(folder)}
    code, output = finish(job)
    assert code == 0, output
    assert "rank 0 was bound to cores" in output and "too few for 2 threads" in output
    assert "layout: rank 0: drives, MD, training, labels; 2 thread(s)" in output
    # Rank 1, which does not train, stays where it was put.
    assert allowed == {0: 2, 1: 1}
