"""Labels as jobs on a real Slurm: whatever becomes of blocks and nodes, each is had, and once.

How often a structure was computed is counted by the calculator itself, in the run's folder.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
from real.cluster_parts import calls, failing_spec, finish, job, python_path, water
from real.failing_calculator import HANG_ONCE, SLOW, WELL
from slurm.one_machine import OneMachineSlurm

from fhi_al.core.errors import EngineError
from fhi_al.engines.ase_calculator import AseEngine
from fhi_al.engines.engine import ReferenceResult
from fhi_al.engines.tblite import tblite_spec
from fhi_al.labels.cluster.cluster import ClusterWorkers
from fhi_al.labels.cluster.options import ClusterOptions
from fhi_al.labels.workers import Finished, Job

pytestmark = [pytest.mark.slurm, pytest.mark.real]

OPTIONS = ClusterOptions(
    provider="slurm",
    workers_per_node=2,
    nodes_per_block=1,
    max_blocks=2,
    max_jobs=8,
    walltime_s=1800,
    job_timeout_s=30.0,
    lost_after_s=8,
    exclusive=False,
    partition="short",
    account="physics",
    scheduler_options="#SBATCH --comment=labels",
    worker_init="export FROM_WORKER_INIT=1",
)
LIMIT_S = 60.0


@pytest.fixture(scope="module")
def environment(slurm: OneMachineSlurm) -> Iterator[None]:
    """What submits the blocks has been started by an MPI launcher in a job of Slurm."""
    with pytest.MonkeyPatch.context() as patch:
        variables = {**slurm.environment, "PYTHONPATH": python_path()}
        for name, value in {**variables, "SLURM_NTASKS": "3", "PMI_RANK": "1"}.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def workers(folder: Path, environment: None) -> Iterator[ClusterWorkers]:
    made = ClusterWorkers([failing_spec(folder)], OPTIONS, folder / "cluster")
    try:
        yield made
    finally:
        made.close()


@dataclass(frozen=True)
class Limited:
    """A label under way in a block whose time is up when Slurm looks the next time."""

    workers: ClusterWorkers
    folder: Path
    job: Job
    block: int


@pytest.fixture(scope="module", autouse=True)
def limited(
    slurm: OneMachineSlurm, environment: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Limited]:
    """From the first test on: until Slurm looks, half a minute may pass."""
    folder = tmp_path_factory.mktemp("limited")
    options = replace(
        OPTIONS,
        exclusive=True,
        max_blocks=1,
        job_timeout_s=600.0,
        scheduler_options="#SBATCH --comment=limited",
    )
    made = ClusterWorkers([failing_spec(folder)], options, folder / "cluster")
    try:
        each = job(0, 1, HANG_ONCE)
        made.begin(each)
        block = block_of(under_way(folder, each))
        slurm.end_at_next_look(block)
        yield Limited(made, folder, each, block)
    finally:
        made.close()


def n_calls(folder: Path, jobs: Sequence[Job]) -> list[int]:
    """How often each job was computed."""
    made = Counter(calls(folder))
    return [made[round(float(each.positions[0, 0]), 6)] for each in jobs]


def under_way(folder: Path, each: Job) -> psutil.Process:
    """The process that computes a job, once the calculator is at it."""
    end = time.monotonic() + LIMIT_S
    place = str(folder / "cluster" / each.key)
    while True:
        for process in psutil.process_iter() if n_calls(folder, [each])[0] else ():
            try:
                if process.cwd().startswith(place):
                    return process
            except psutil.Error:
                continue
        assert time.monotonic() < end, "the job never began"
        time.sleep(0.05)


def block_of(process: psutil.Process) -> int:
    return int(process.environ()["SLURM_JOB_ID"])


def blocks(slurm: OneMachineSlurm, comment: str) -> list[int]:
    """The blocks that wait or run and have this among their options."""
    return [job for job in slurm.jobs() if slurm.of_job(job)["Comment"] == comment]


def wait(workers: ClusterWorkers) -> list[Finished]:
    end = time.monotonic() + LIMIT_S
    while not (finished := workers.collect()):
        assert time.monotonic() < end, "the label never came"
        time.sleep(0.05)
    return finished


def converged(finished: Sequence[Finished]) -> bool:
    results = [each.result for each in finished]
    assert all(isinstance(result, ReferenceResult) for result in results), results
    return all(isinstance(result, ReferenceResult) and result.converged for result in results)


def test_labels_in_blocks_are_those_of_the_engine_each_computed_once(
    slurm: OneMachineSlurm, workers: ClusterWorkers, folder: Path
) -> None:
    jobs = [job(0, seed, WELL + seed) for seed in range(1, 5)]
    done = finish(workers, jobs)
    assert n_calls(folder, jobs) == [1] * 4
    engine = AseEngine(tblite_spec("GFN2-xTB", water()))
    for each in jobs:
        result, expected = done[each.key].result, engine.calculate(each.positions, each.cell)
        assert isinstance(result, ReferenceResult), result
        assert result.energy == expected.energy
        assert result.forces.tobytes() == expected.forces.tobytes()
    running = blocks(slurm, "labels")
    assert len(running) == 2
    for block in map(slurm.of_job, running):
        wanted = {
            "NumNodes": "1", "TimeLimit": "00:30:00", "Partition": "short", "Account": "physics",
            "NumTasks": "1", "OverSubscribe": "OK",
            # Of a node that it shares a block has the cores of its workers.
            "NumCPUs": "2",
        }  # fmt: skip
        assert wanted.items() <= block.items()


def cancel(slurm: OneMachineSlurm, process: psutil.Process) -> None:
    slurm.run("scancel", str(block_of(process)))


def lose_the_node(slurm: OneMachineSlurm, process: psutil.Process) -> None:
    """All that runs on it dies at once; later it is back."""
    block = block_of(process)
    node = slurm.of_job(block)["NodeList"]
    slurm.kill_node(node)
    for each in slurm.processes():
        if each.environ().get("SLURM_JOB_ID") == str(block) or node in each.cmdline():
            each.kill()
    slurm.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    slurm.start_node(node)


# Slow: on a busy machine a block, or a process within a label of a second, is found too late.
@pytest.mark.slow
def test_labels_whose_block_is_cancelled_or_whose_node_dies_are_tried_again(
    slurm: OneMachineSlurm, workers: ClusterWorkers, folder: Path
) -> None:
    jobs, others = (
        [job(0, k, HANG_ONCE + k) for k in (1, 2)],
        [job(0, k, WELL + k) for k in range(1, 5)],
    )
    finish(workers, others)
    for each, lose in zip(jobs, (cancel, lose_the_node), strict=True):
        workers.begin(each)
        lose(slurm, under_way(folder, each))
    finished = wait(workers)
    while len(finished) < len(jobs):
        finished += wait(workers)
    assert converged(finished)
    # The first may have been on its way again when the node died.
    cancelled, died = n_calls(folder, jobs)
    assert cancelled in (2, 3) and died == 2
    assert n_calls(folder, others) == [1] * 4


@pytest.mark.slow
def test_a_slurmd_that_is_killed_and_comes_back_costs_nothing(
    slurm: OneMachineSlurm, workers: ClusterWorkers, folder: Path
) -> None:
    each = job(0, 3, SLOW + 3)
    workers.begin(each)
    process = under_way(folder, each)
    # It knows its own Slurm job, and nothing of the MPI job that the driver belongs to.
    assert "PMI_RANK" not in process.environ()
    assert process.environ()["FROM_WORKER_INIT"] == "1"
    block = block_of(process)
    node = slurm.of_job(block)["NodeList"]
    slurm.kill_node(node)
    assert converged(wait(workers))
    assert n_calls(folder, [each]) == [1]
    slurm.start_node(node)
    assert slurm.of_job(block)["JobState"] == "RUNNING"
    later = job(0, 5, WELL + 5)
    assert converged(list(finish(workers, [later]).values()))
    assert n_calls(folder, [later]) == [1]


def test_a_label_at_whose_block_the_time_limit_is_hit_is_tried_again(
    slurm: OneMachineSlurm, limited: Limited
) -> None:
    (finished,) = wait(limited.workers)
    assert finished.key == limited.job.key and converged([finished])
    assert n_calls(limited.folder, [limited.job]) == [2]
    assert slurm.of_job(limited.block)["JobState"] == "TIMEOUT"
    (block,) = blocks(slurm, "limited")
    assert {"NumCPUs": "4", "OverSubscribe": "NO"}.items() <= slurm.of_job(block).items()
    limited.workers.close()
    slurm.wait_for(block, "CANCELLED", limit_s=LIMIT_S)


def test_closing_gives_the_blocks_back(slurm: OneMachineSlurm, workers: ClusterWorkers) -> None:
    finish(workers, [job(0, 8, WELL + 8)])
    running = blocks(slurm, "labels")
    assert running
    workers.close()
    for block in running:
        slurm.wait_for(block, "CANCELLED", limit_s=LIMIT_S)


@pytest.mark.slow
def test_workers_on_every_node_of_a_block(
    slurm: OneMachineSlurm, environment: None, tmp_path: Path
) -> None:
    options = replace(OPTIONS, launcher="srun", nodes_per_block=2, max_blocks=1, workers_per_node=1)
    made = ClusterWorkers([failing_spec(tmp_path)], options, tmp_path / "cluster")
    jobs = [job(0, seed, SLOW + seed) for seed in range(2)]
    try:
        for each in jobs:
            made.begin(each)
        nodes = {under_way(tmp_path, each).environ()["SLURMD_NODENAME"] for each in jobs}
        done = list(finish(made, []).values())
        while len(done) < len(jobs):
            done += wait(made)
    finally:
        made.close()
    assert nodes == {"node1", "node2"}
    assert converged(done) and n_calls(tmp_path, jobs) == [1, 1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"partition": "nowhere"}, "invalid partition specified: nowhere"),
        ({"worker_init": "echo no such module >&2; exit 1"}, "no such module"),
    ],
)
def test_blocks_that_cannot_be_had_are_an_error_that_says_why(
    environment: None, tmp_path: Path, change: dict[str, str], words: str
) -> None:
    options = replace(OPTIONS, lost_after_s=1, **change)
    made = ClusterWorkers([failing_spec(tmp_path)], options, tmp_path)
    end = time.monotonic() + LIMIT_S
    try:
        made.begin(job(0, 1))
        with pytest.raises(EngineError, match="blocks of workers fail") as caught:
            while time.monotonic() < end:
                assert made.collect() == []
                time.sleep(0.05)
    finally:
        made.close()
    assert words in str(caught.value), str(caught.value)
