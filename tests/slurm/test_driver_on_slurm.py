"""Time limits and signals of a real Slurm: runs, with the scripts of the examples, and blocks.

And MPI under srun.  Labels are counted by the calculator, in the run's folder.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from real.cluster_parts import calls, job, python_path
from real.failing_calculator import HANG_ONCE, HOLD
from slurm.cluster_labels import OPTIONS, Labels, block_of, blocks, labels_on
from slurm.one_machine import CORES_PER_NODE, LIMIT_S, PARTITIONS, OneMachineSlurm
from workflow.run_folder import BACKENDS, SMALLEST, labels, write_inputs

from fhi_al.labels.workers import Job

pytestmark = [pytest.mark.slurm, pytest.mark.real, pytest.mark.mpi]

EXAMPLES = Path(__file__).parents[2] / "examples"
# Of the blocks of the driver.
COMMENT = "driver"
# Labels before the run is asked to stop.
N_BEFORE = 3
# A login shell has a PATH of its own: the scripts say where to put what finds FHI_AL.
ADAPT = "# source /path/to/venv/bin/activate"
SETTINGS: dict[str, Any] = {
    **SMALLEST,
    "parallel": True,
    "initial_sampling": "foundation",
    "foundation_calculator": "tblite.ase.TBLite",
    "foundation_arguments": {"method": "GFN1-xTB", "verbosity": 0},
    "reference_engine": "ase",
    "reference_calculator": "failing_calculator.FailingCalculator",
    "n_samples": 3,
    "skip_step_initial": 2,
    "converge_al": False,
}
CLUSTER = {
    "provider": "slurm",
    "workers_per_node": 2,
    "exclusive": False,
    "walltime": "00:30:00",
    "job_timeout": 600,
    "lost_after": 8,
    "scheduler_options": f"#SBATCH --comment={COMMENT}",
}
BOTH_NODES = replace(
    OPTIONS,
    launcher="srun",
    nodes_per_block=2,
    workers_per_node=1,
    max_blocks=1,
    exclusive=True,
    partition="whole",
    scheduler_options="#SBATCH --comment=limited",
)
ENVIRONMENT = {
    "PYTHONPATH": f"{python_path()}:{BACKENDS}",
    "OMP_NUM_THREADS": "1",
    # What --mpi=pmi2 says; MPICH of PyPI does not understand the default of this Slurm (none).
    "SLURM_MPI_TYPE": "pmi2",
}


def run_folder(folder: Path, script: Path, **settings: Any) -> Path:
    """A run that comes to a few labels at first, and the script of an example that starts it."""
    arguments = {"reference_arguments": {"calls": str(folder / "calls.txt")}}
    write_inputs(folder, active_learning={"ACTIVE_LEARNING": {**SETTINGS, **arguments, **settings}})
    (folder / HOLD).write_text(str(N_BEFORE))
    text = script.read_text()
    assert text.count(ADAPT) == 1
    copied = folder / script.name
    copied.write_text(text.replace(ADAPT, f"export PATH={Path(sys.executable).parent}:$PATH"))
    return copied


def wait_until(happened: Callable[[], object], folder: Path) -> None:
    end = time.monotonic() + LIMIT_S
    while not happened():
        assert time.monotonic() < end, said(folder)
        time.sleep(0.05)


def said(folder: Path) -> str:
    """What the script and the command in it have printed."""
    outputs = [*sorted(folder.glob("slurm_*.out")), folder / "check.out"]
    return "\n".join(path.read_text() for path in outputs if path.exists())


def wait_for_labels(folder: Path, n_labels: int) -> None:
    store = folder / "restart" / "labels.jsonl"
    wait_until(lambda: store.exists() and store.read_bytes().count(b"\n") >= n_labels, folder)


def keys(folder: Path) -> list[str]:
    return [record["key"] for record in labels(folder)]


def assert_each_is_there_once(folder: Path, n_given_up: int) -> None:
    """No label is stored twice, and no structure was computed again but those given up."""
    made = Counter(calls(folder))
    assert len(set(keys(folder))) == len(keys(folder)) == len(made)
    again = [place for place, n in made.items() if n > 1]
    assert set(made.values()) <= {1, 2} and len(again) <= n_given_up


def assert_blocks_are_given_back(slurm: OneMachineSlurm) -> None:
    """Not ended by themselves, as they do when they have lost their driver."""
    ended = blocks(slurm, COMMENT)
    assert ended
    for block in ended:
        slurm.wait_for(block, "CANCELLED")


@dataclass(frozen=True)
class Submitted:
    """A run whose script has been submitted, and the folder of both."""

    job: int
    script: Path

    @property
    def folder(self) -> Path:
        return self.script.parent


@dataclass(frozen=True)
class Limited:
    """Labels on all nodes of a block."""

    labels: Labels
    jobs: list[Job]
    block: int
    nodes: set[str]


@pytest.fixture(scope="module", autouse=True)
def driver(slurm: OneMachineSlurm, tmp_path_factory: pytest.TempPathFactory) -> Submitted:
    """The driver of labels as jobs, submitted; see :func:`limited`."""
    folder = tmp_path_factory.mktemp("driver") / "run"
    script = run_folder(folder, EXAMPLES / "cluster" / "driver.sh", cluster=CLUSTER)
    return Submitted(slurm.submit(script, environment=ENVIRONMENT), script)


@pytest.fixture(scope="module", autouse=True)
def limited(
    slurm: OneMachineSlurm,
    environment: None,
    driver: Submitted,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Limited]:
    """From the first test on: until Slurm looks for limits half a minute may pass.

    Then it asks the driver to stop, and the time of the block is up.
    """
    with labels_on(tmp_path_factory.mktemp("limited"), BOTH_NODES) as labels:
        jobs = [job(0, k, HANG_ONCE + k) for k in (1, 2)]
        labels.begin(*jobs)
        processes = [labels.under_way(each) for each in jobs]
        (block,) = {block_of(process) for process in processes}
        nodes = {process.environ()["SLURMD_NODENAME"] for process in processes}
        slurm.end_at_next_look(block)
        wait_for_labels(driver.folder, N_BEFORE)
        # The script asks for SIGUSR1 ten minutes before the end.
        slurm.end_at_next_look(driver.job, 300)
        yield Limited(labels, jobs, block, nodes)


@pytest.fixture(scope="module")
def ranks(slurm: OneMachineSlurm, tmp_path_factory: pytest.TempPathFactory) -> Submitted:
    """A run of several ranks that has been asked to stop."""
    folder = tmp_path_factory.mktemp("ranks") / "run"
    script = run_folder(folder, EXAMPLES / "slurm" / "one_node.sh", training_ranks=1)
    job = slurm.submit(script, "--ntasks=3", environment=ENVIRONMENT)
    wait_for_labels(folder, N_BEFORE)
    # To the step, as --signal=USR1 does; see the driver for that itself.
    slurm.run("scancel", "--signal=USR1", str(job))
    stopping = re.compile("waiting for . label.* under way")
    wait_until(lambda: stopping.search(said(folder)), folder)
    (folder / HOLD).unlink()
    return Submitted(job, script)


# Meanwhile the other run waits in the queue.
@pytest.mark.usefixtures("ranks")
def test_mpi_under_srun_and_under_mpirun_in_a_job(slurm: OneMachineSlurm, tmp_path: Path) -> None:
    """Two ranks on each of two nodes, where only one knows the language of the other."""
    # A line in one piece, whoever else is writing.
    words = 'print(f"{w.allreduce(w.rank)} {w.size}\\n", end="")'
    program = f"from mpi4py.MPI import COMM_WORLD as w; {words}"
    programs = Path(sys.executable).parent
    mpirun = shutil.which("mpirun", path=str(programs)) or "mpirun"
    script = tmp_path / "job.sh"
    script.write_text(
        f"#!/bin/bash\n#SBATCH --nodes=2 --ntasks=4 --ntasks-per-node=2\nrank='{program}'\n"
        f'for start in "srun --mpi=pmi2" "{mpirun}" "srun --mpi=none"; do\n'
        f'  $start {sys.executable} -c "$rank"\ndone\n'
        f"srun --mpi=none --ntasks=2 {programs}/FHI_AL --version 2> told > version\n"
    )
    job = slurm.submit(script, "--output=out")
    slurm.wait_for(job, "COMPLETED")
    lines = (tmp_path / "out").read_text().split("\n")[:-1]
    assert lines == ["6 4"] * 8 + ["0 1"] * 4
    told = (tmp_path / "told").read_text()
    assert told.count("srun has started 2 processes, and MPI takes each for a run of one rank") == 2
    assert "try --mpi=pmi2 or --mpi=pmix" in told


def test_a_run_of_several_ranks_is_stopped_and_puts_itself_into_the_queue_again(
    slurm: OneMachineSlurm, ranks: Submitted
) -> None:
    found = slurm.wait_for(ranks.job, "COMPLETED")
    assert (found["ExitCode"], found["Restarts"]) == ("0:0", "1")
    assert "run the same command again to continue" in said(ranks.folder)
    assert_each_is_there_once(ranks.folder, 0)


def test_the_driver_stops_before_its_time_limit_and_goes_on_when_submitted_again(
    slurm: OneMachineSlurm, driver: Submitted
) -> None:
    folder = driver.folder
    found = slurm.wait_for(driver.job, "FAILED")
    assert found["ExitCode"] == "3:0", said(folder)
    assert "run the same command again to continue" in said(folder)
    assert "Traceback" not in said(folder)
    assert_blocks_are_given_back(slurm)
    before = keys(folder)
    finished = {path.parent.name for path in (folder / "cluster").glob("*/result.json")}
    assert len(before) == N_BEFORE and set(before) <= finished
    (folder / HOLD).unlink()
    again = slurm.submit(driver.script, environment=ENVIRONMENT)
    assert slurm.wait_for(again, "COMPLETED")["ExitCode"] == "0:0"
    assert keys(folder)[: len(before)] == before
    assert_each_is_there_once(folder, CLUSTER["workers_per_node"])
    assert_blocks_are_given_back(slurm)
    results = (folder / "cluster").glob("*/result.json")
    assert {json.loads(path.read_text())["key"] for path in results} == set(keys(folder))
    assert (folder / "data" / "final").is_dir()


def test_workers_are_on_every_node_of_a_block(limited: Limited) -> None:
    assert limited.nodes == set(PARTITIONS["whole"])


def test_labels_at_whose_block_the_time_limit_is_hit_are_tried_again(
    slurm: OneMachineSlurm, limited: Limited
) -> None:
    limited.labels.results(*limited.jobs)
    assert limited.labels.n_calls(*limited.jobs) == [2, 2]
    assert slurm.of_job(limited.block)["JobState"] == "TIMEOUT"
    (block,) = blocks(slurm, "limited") - {limited.block}
    whole = {"NumCPUs": str(2 * CORES_PER_NODE), "OverSubscribe": "NO"}
    assert whole.items() <= slurm.of_job(block).items()
    # Closing gives the block back; no other test asks these workers for anything.
    limited.labels.workers.close()
    slurm.wait_for(block, "CANCELLED")
