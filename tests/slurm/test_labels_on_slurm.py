"""Labels as jobs on a real Slurm: whatever becomes of blocks and nodes, each is had, and once.

How often a structure was computed is counted by the calculator itself, in the run's folder.  Labels
that something is to happen to are under way until it has happened.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace

import psutil
import pytest
from real.cluster_parts import job, water
from real.failing_calculator import HANG_ONCE, WELL, held
from slurm.cluster_labels import OPTIONS, Labels, block_of, labels_on
from slurm.one_machine import LIMIT_S, OneMachineSlurm

from fhi_al.core.errors import EngineError
from fhi_al.engines.ase_calculator import AseEngine
from fhi_al.engines.tblite import tblite_spec
from fhi_al.labels.cluster.parsl import slurm_provider

pytestmark = [pytest.mark.slurm, pytest.mark.real]

# Blocks that cannot be had, and what is said of them.
REFUSED = {
    "invalid partition specified: nowhere": replace(OPTIONS, partition="nowhere"),
    "no such module": replace(OPTIONS, worker_init="echo no such module >&2; exit 1"),
}
# More than one block has workers.
N_JOBS = OPTIONS.workers_per_node + 1
WELL_JOBS = [job(0, seed, WELL + seed) for seed in range(1, N_JOBS + 1)]


@pytest.fixture(scope="module", autouse=True)
def refused(
    environment: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Labels]]:
    """From the first test on: three blocks are asked for before it is said that there are none."""
    with contextlib.ExitStack() as stack:
        made = {
            words: stack.enter_context(
                labels_on(tmp_path_factory.mktemp("refused"), replace(options, lost_after_s=1))
            )
            for words, options in REFUSED.items()
        }
        for each in made.values():
            each.begin(job(0, 1))
        yield made


@pytest.fixture(scope="module")
def labels(environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labels]:
    with labels_on(tmp_path_factory.mktemp("labels"), OPTIONS) as made:
        yield made


def test_labels_in_blocks_are_those_of_the_engine_each_computed_once(
    slurm: OneMachineSlurm, labels: Labels
) -> None:
    with held(labels.folder):
        labels.begin(*WELL_JOBS)
        running = {block_of(labels.under_way(each)) for each in WELL_JOBS}
    results = labels.results(*WELL_JOBS)
    assert labels.n_calls(*WELL_JOBS) == [1] * N_JOBS
    engine = AseEngine(tblite_spec("GFN2-xTB", water()))
    for each, result in zip(WELL_JOBS, results, strict=True):
        expected = engine.calculate(each.positions, each.cell)
        assert result.energy == expected.energy
        assert result.forces.tobytes() == expected.forces.tobytes()
    assert len(running) == 2
    for block in map(slurm.of_job, running):
        wanted = {
            "NumNodes": "1", "TimeLimit": "00:30:00", "Partition": "short", "Account": "physics",
            "NumTasks": "1", "OverSubscribe": "OK",
            # Of a node that it shares a block has the cores of its workers.
            "NumCPUs": "2",
        }  # fmt: skip
        assert wanted.items() <= block.items()


def lose_the_node(slurm: OneMachineSlurm, block: int) -> None:
    """All that runs on it dies at once; later it is back."""
    node = slurm.of_job(block)["NodeList"]
    slurm.kill_node(node)
    for each in slurm.processes():
        with contextlib.suppress(psutil.Error):
            words = each.cmdline()
            of_the_block = each.environ().get("SLURM_JOB_ID") == str(block)
            if of_the_block or node in words or words[0].startswith(f"slurmstepd: [{block}."):
                each.kill()
    slurm.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    slurm.start_node(node)


def test_labels_whose_block_is_cancelled_or_whose_node_dies_are_tried_again(
    slurm: OneMachineSlurm, labels: Labels
) -> None:
    labels.begin(*WELL_JOBS)
    labels.results(*WELL_JOBS)
    jobs = [job(0, k, HANG_ONCE + k) for k in range(1, N_JOBS + 1)]
    labels.begin(*jobs)
    cancelled, dies = {block_of(labels.under_way(each)) for each in jobs}
    slurm.run("scancel", str(cancelled))
    lose_the_node(slurm, dies)
    labels.results(*jobs)
    assert labels.n_calls(*jobs) == [2] * N_JOBS
    assert labels.n_calls(*WELL_JOBS) == [1] * N_JOBS


def test_blocks_that_cannot_be_had_are_an_error_that_says_why(refused: dict[str, Labels]) -> None:
    for words, labels in refused.items():
        end = time.monotonic() + LIMIT_S
        with pytest.raises(EngineError, match="blocks of workers fail") as caught:
            while time.monotonic() < end:
                labels.collect()
        assert not labels.done
        assert words in str(caught.value), str(caught.value)


def test_a_slurmd_that_is_killed_and_comes_back_costs_nothing(
    slurm: OneMachineSlurm, labels: Labels
) -> None:
    each, later = job(0, 5, WELL + 5), job(0, 6, WELL + 6)
    with held(labels.folder):
        labels.begin(each)
        process = labels.under_way(each)
        # It knows its own Slurm job, and nothing of the MPI job that the driver belongs to.
        assert "PMI_RANK" not in process.environ()
        assert process.environ()["FROM_WORKER_INIT"] == "1"
        block = block_of(process)
        node = slurm.of_job(block)["NodeList"]
        slurm.kill_node(node)
    labels.results(each)
    slurm.start_node(node)
    assert slurm.of_job(block)["JobState"] == "RUNNING"
    labels.begin(later)
    labels.results(later)
    assert labels.n_calls(each, later) == [1, 1]


def test_a_block_that_squeue_has_forgotten_has_ended(environment: None) -> None:
    provider = slurm_provider(OPTIONS)
    assert provider.execute_wait("squeue --noheader --job '999999'") == (0, "", "")
    assert provider.execute_wait("squeue --no-such-option")[0] != 0
    assert provider.execute_wait("scontrol show job 999999")[0] != 0
