"""Labels as jobs on Parsl's local workers, for real: equal, retried, found again, cleaned up."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from cluster_parts import (
    calls,
    failing_spec,
    finish,
    job,
    processes_of,
    python_path,
    runs,
    wait_until_gone,
    water,
)
from failing_calculator import EXIT, EXIT_ONCE, HANG, HANG_ONCE, NO_SCF, RAISE, SLOW, WELL
from test_aims_executable import DIAMOND, FAKE, WATER, spec_of

from fhi_al.app.checks import read_inputs
from fhi_al.core.errors import CannotCompute, EngineError
from fhi_al.core.structure import geometry_key
from fhi_al.engines import registry
from fhi_al.engines.ase_calculator import AseEngine
from fhi_al.engines.engine import ReferenceResult
from fhi_al.engines.fingerprint import fingerprint
from fhi_al.engines.tblite import tblite_spec
from fhi_al.labels.cluster.cluster import ClusterWorkers
from fhi_al.labels.cluster.job import JobInput
from fhi_al.labels.cluster.options import ClusterOptions
from fhi_al.labels.cluster.parsl import slurm_provider
from fhi_al.labels.cluster.worker import JobOrder, run_job
from fhi_al.labels.workers import Job
from fhi_al.settings import read_settings

pytestmark = pytest.mark.real

OPTIONS = ClusterOptions(
    workers_per_node=2, max_jobs=4, job_timeout_s=60.0, attempts=2, lost_after_s=4
)
SYSTEMS = """\
ACTIVE_LEARNING:
  desired_acc: 0.05
  ensemble_size: 2
  species_dir: .
  parallel: true
  cluster:
    aims_command: {python} {fake} atom
MD:
  temperature: 300
SYSTEMS:
  - name: water
  - name: diamond
    geometry: diamond.in
    control: control_diamond.in
"""
XTB, TROUBLE, AIMS, IMPOSSIBLE = 0, 1, 2, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def environment() -> Iterator[None]:
    """What workers inherit: where the tests' calculators are, and traces of an MPI launcher."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", python_path())
        patch.setenv("PMI_RANK", "1")
        patch.setenv("PMI_FD", "9")
        yield


@pytest.fixture(scope="module")
def workers(folder: Path, environment: None) -> Iterator[ClusterWorkers]:
    impossible = tblite_spec("GFN2-xTB", water(), {"multiplicity": 2})
    specs = [tblite_spec("GFN2-xTB", water()), failing_spec(folder), spec_of(), impossible]
    made = ClusterWorkers(specs, OPTIONS, folder / "cluster")
    try:
        yield made
    finally:
        made.close()


def result_of(done: object) -> ReferenceResult:
    assert isinstance(done, ReferenceResult), done
    return done


def test_labels_equal_those_of_the_engine_to_the_last_bit(
    workers: ClusterWorkers, folder: Path
) -> None:
    jobs = [job(XTB, seed) for seed in range(5)]
    done = finish(workers, jobs)
    engine = AseEngine(tblite_spec("GFN2-xTB", water()))
    for each in jobs:
        expected = engine.calculate(each.positions, each.cell)
        found = result_of(done[each.key].result)
        assert found.energy == expected.energy
        assert found.forces.tobytes() == expected.forces.tobytes()
        assert done[each.key].seconds > 0.0
        # One file for each label is what is left of it.
        assert [path.name for path in (folder / "cluster" / each.key).iterdir()] == ["result.json"]


def test_trouble_is_tried_again_then_reported_and_harms_nobody_else(
    workers: ClusterWorkers, folder: Path
) -> None:
    places = {place: job(TROUBLE, 1, place) for place in (EXIT, RAISE, NO_SCF, EXIT_ONCE)}
    good = [job(TROUBLE, seed, WELL + seed) for seed in (1, 2)]
    done = finish(workers, [*places.values(), *good])
    lines = {place: done[each.key].result for place, each in places.items()}
    made = calls(folder)
    for place, words in (
        (EXIT, "exit code 7"),
        (RAISE, "RuntimeError: no idea what to do"),
    ):
        message = lines[place]
        assert isinstance(message, str)
        assert message.startswith("the job failed 2 times") and words in message
        assert made.count(place) == 2
    assert not result_of(lines[NO_SCF]).converged
    assert "not converged in 250 cycles" in result_of(lines[NO_SCF]).message
    assert made.count(NO_SCF) == 1
    assert result_of(lines[EXIT_ONCE]).converged
    assert made.count(EXIT_ONCE) == 2
    assert all(result_of(done[each.key].result).converged for each in good)


def test_a_label_that_takes_too_long_is_killed(tmp_path: Path, environment: None) -> None:
    """As any other that fails it is then tried again: what counts is what the worker reports."""
    each, spec = job(0, 1, HANG), failing_spec(tmp_path)
    given = JobInput(
        spec, fingerprint(spec), each.key, each.positions, each.cell, str(tmp_path / each.key)
    )
    report = run_job(JobOrder(pickle.dumps(given), given.folder, 2.0, threads=1))
    assert report.result is None and report.why == "it took longer than job_timeout = 2 s"
    assert not processes_of(tmp_path)


def test_a_system_that_cannot_be_computed_is_tried_once(
    workers: ClusterWorkers, folder: Path
) -> None:
    each = job(IMPOSSIBLE, 1)
    result = finish(workers, [each])[each.key].result
    assert isinstance(result, CannotCompute) and "is not compatible" in str(result)
    assert not (folder / "cluster" / each.key / "attempt_2").exists()


def test_the_executable_of_fhi_aims_runs_in_a_folder_of_its_own(
    workers: ClusterWorkers, folder: Path
) -> None:
    spec = spec_of()
    positions, cell = spec.structure.positions, spec.structure.cell
    key = geometry_key(AIMS, positions, cell)
    result = result_of(finish(workers, [Job(key, AIMS, positions, cell)])[key].result)
    expected = AseEngine(tblite_spec("GFN2-xTB", spec.structure)).calculate(positions, cell)
    assert result.energy == pytest.approx(expected.energy, abs=1e-8)
    attempt = folder / "cluster" / key / "attempt_1"
    assert {"aims.out", "control.in", "geometry.in"} <= {path.name for path in attempt.iterdir()}


def test_jobs_of_several_systems_have_their_own_inputs(tmp_path: Path, environment: None) -> None:
    """From the settings on; neither control.in knows the other's species."""
    water = "species O_w\n  nucleus 8\nspecies H\n  nucleus 1\n"
    carbon = "k_grid 1 1 1\nspecies C\n  nucleus 6\n"
    for name, text in (
        ("geometry.in", WATER),
        ("diamond.in", DIAMOND),
        ("control.in", f"xc pbe\n{water}"),
        ("control_diamond.in", f"xc pw-lda\n{carbon}"),
        ("active_learning_settings.yaml", SYSTEMS.format(python=sys.executable, fake=FAKE)),
    ):
        (tmp_path / name).write_text(text)
    settings = read_settings(tmp_path, needs_mace=False)
    specs = registry.engine_specs(tmp_path, settings, read_inputs(settings))
    made = ClusterWorkers(specs, OPTIONS, tmp_path / "cluster")
    try:
        jobs = [
            Job(
                geometry_key(k, s.structure.positions, s.structure.cell),
                k,
                s.structure.positions,
                s.structure.cell,
            )
            for k, s in enumerate(specs)
        ]
        done = finish(made, jobs)
    finally:
        made.close()
    for each, spec, method, xc in zip(
        jobs, specs, ("GFN2-xTB", "GFN1-xTB"), ("pbe", "pw-lda"), strict=True
    ):
        expected = AseEngine(tblite_spec(method, spec.structure)).calculate(
            each.positions, each.cell
        )
        assert result_of(done[each.key].result).energy == pytest.approx(expected.energy, abs=1e-8)
        attempt = tmp_path / "cluster" / each.key / "attempt_1"
        assert (attempt / "control.in").read_text() == spec.text
        assert f"xc {xc}\n" in spec.text


def test_a_block_that_dies_is_replaced_and_its_job_tried_again(
    workers: ClusterWorkers, folder: Path
) -> None:
    lost = job(TROUBLE, 1, HANG_ONCE)
    workers.begin(lost)
    limit = time.monotonic() + 60.0
    while HANG_ONCE not in calls(folder):
        assert time.monotonic() < limit
        time.sleep(0.05)
    for process in processes_of(folder):
        process.kill()
    # Nobody knows yet: it is given to the other worker of the block.  It has two attempts, one of
    # which fails; that it was lost before it began is none.
    given = job(TROUBLE, 2, EXIT_ONCE + 1)
    done = finish(workers, [given])
    while lost.key not in done:
        assert time.monotonic() < limit
        done |= {each.key: each for each in workers.collect()}
        time.sleep(0.05)
    assert all(result_of(done[each.key].result).converged for each in (lost, given))
    assert [calls(folder).count(x) for x in (HANG_ONCE, EXIT_ONCE + 1)] == [2, 2]


@pytest.mark.parametrize(("lost_after_s", "look_s"), [(1, 1), (8, 2), (120, 30), (1200, 60)])
def test_blocks_of_slurm_are_looked_at_as_often_as_their_workers(
    lost_after_s: int, look_s: int
) -> None:
    # Without a Slurm: it is not asked for anything.
    provider = slurm_provider(ClusterOptions("slurm", lost_after_s=lost_after_s))
    assert provider.status_polling_interval == look_s
    assert provider.walltime == "04:00:00"


def test_no_more_jobs_than_there_is_room_for(workers: ClusterWorkers) -> None:
    jobs = [job(XTB, seed) for seed in range(20, 24)]
    for taken, each in enumerate(jobs):
        assert workers.n_free() == 4 - taken
        workers.begin(each)
    with pytest.raises(ValueError, match="is out already"):
        workers.begin(jobs[0])
    finish(workers, [])
    limit = time.monotonic() + 30.0
    while workers.n_free() < 4:
        assert time.monotonic() < limit
        workers.collect()
        time.sleep(0.05)


def test_closing_leaves_no_process_behind(folder: Path, environment: None) -> None:
    # Under the folder of the others, whose processes are not meant.
    place = folder / "closing"
    place.mkdir()
    workers = ClusterWorkers([failing_spec(place)], OPTIONS, place)
    others = set(psutil.Process().children())
    workers.begin(job(0, 1, HANG))
    interchanges = set(psutil.Process().children()) - others
    assert interchanges
    limit = time.monotonic() + 30.0
    while HANG not in calls(place):
        assert time.monotonic() < limit
        time.sleep(0.05)
    running = processes_of(place)
    assert len(running) >= 4  # the block's shell, its pool, workers, the job
    workers.close()
    workers.close()
    wait_until_gone(running, 3.0)
    assert not processes_of(place)
    assert not any(runs(process) for process in interchanges)


def test_a_driver_that_was_killed_finds_what_had_finished(tmp_path: Path) -> None:
    script = Path(__file__).with_name("cluster_driver.py")
    environment = {**os.environ, "PYTHONPATH": python_path()}
    driver = subprocess.Popen([sys.executable, str(script), str(tmp_path)], env=environment)
    limit = time.monotonic() + 40.0
    cluster = tmp_path / "cluster"
    while not list(cluster.glob("*/result.json")):
        assert time.monotonic() < limit and driver.poll() is None
        time.sleep(0.02)
    left = processes_of(tmp_path) | set(psutil.Process(driver.pid).children(recursive=True))
    driver.send_signal(signal.SIGKILL)
    driver.wait(timeout=10)
    finished = {path.parent.name for path in cluster.glob("*/result.json")}
    jobs = [job(0, seed, SLOW + seed) for seed in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", python_path())
        workers = ClusterWorkers([failing_spec(tmp_path)], OPTIONS, cluster)
        try:
            done = finish(workers, jobs)
        finally:
            workers.close()
    made = calls(tmp_path)
    for each in jobs:
        assert result_of(done[each.key].result).converged
        if each.key in finished:
            assert made.count(round(each.positions[0, 0], 6)) == 1
    # The killed driver's workers notice that it is gone, and go.
    wait_until_gone(left, 15.0)


def test_a_result_of_another_engine_is_not_taken(workers: ClusterWorkers, folder: Path) -> None:
    each = job(XTB, 40)
    theirs = result_of(finish(workers, [each])[each.key].result)
    others = ClusterWorkers([tblite_spec("GFN1-xTB", water())], OPTIONS, folder / "cluster")
    try:
        ours = result_of(finish(others, [each])[each.key].result)
    finally:
        others.close()
    assert abs(ours.energy - theirs.energy) > 1.0


def test_workers_that_cannot_be_had_are_an_error_of_the_engine(
    tmp_path: Path, environment: None
) -> None:
    options = replace(OPTIONS, worker_init="exit 1")
    workers = ClusterWorkers([failing_spec(tmp_path)], options, tmp_path)
    try:
        workers.begin(job(0, 1))
        limit = time.monotonic() + 40.0
        with pytest.raises(EngineError, match="blocks of workers fail"):
            while time.monotonic() < limit:
                assert workers.collect() == []
                time.sleep(0.05)
    finally:
        workers.close()
