"""Jobs on a cluster without Parsl: options, files, environments."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from fhi_al.core.errors import EngineError
from fhi_al.core.structure import structure
from fhi_al.engines.command import command_problem
from fhi_al.engines.engine import ReferenceResult
from fhi_al.engines.fingerprint import Fingerprint, fingerprint
from fhi_al.engines.spec import AseSpec
from fhi_al.engines.tblite import tblite_spec
from fhi_al.labels.cluster.cluster import ClusterWorkers
from fhi_al.labels.cluster.job import JobInput
from fhi_al.labels.cluster.options import ClusterOptions
from fhi_al.labels.cluster.processes import (
    end_processes,
    family,
    launcher_variables,
    step_environment,
)
from fhi_al.labels.cluster.result import RESULT, read_result, write_result
from fhi_al.labels.workers import Job

ENGINE = Fingerprint("engine")
FORCES = np.array([[0.1, -2.0 / 3.0, 1e-17], [np.pi, 5e300, -0.0]])


def test_a_result_survives_its_file_to_the_last_bit(tmp_path: Path) -> None:
    stress = FORCES[:1].T @ FORCES[:1]
    given = ReferenceResult(-1.0 / 3.0, FORCES, stress, True, "with a warning")
    write_result(tmp_path, ENGINE, "key", given, 1.5)
    read = read_result(tmp_path, ENGINE, "key", 2)
    assert read is not None
    found, seconds = read
    assert found.energy == given.energy and found.forces.tobytes() == FORCES.tobytes()
    assert found.stress is not None and found.stress.tobytes() == stress.tobytes()
    assert (found.converged, found.message, seconds) == (True, "with a warning", 1.5)


def test_a_result_that_did_not_converge_survives_too(tmp_path: Path) -> None:
    nothing = np.full((2, 3), np.nan)
    write_result(tmp_path, ENGINE, "k", ReferenceResult(float("nan"), nothing, None, False), 0.0)
    read = read_result(tmp_path, ENGINE, "k", 2)
    assert read is not None
    assert not read[0].converged and np.isnan(read[0].energy) and np.isnan(read[0].forces).all()


def test_a_result_of_something_else_or_a_damaged_one_counts_as_none(tmp_path: Path) -> None:
    assert read_result(tmp_path, ENGINE, "k", 2) is None
    write_result(tmp_path, ENGINE, "k", ReferenceResult(1.0, FORCES, None, True), 0.0)
    text = (tmp_path / RESULT).read_text()
    assert read_result(tmp_path, ENGINE, "k", 2) is not None
    assert read_result(tmp_path, Fingerprint("other"), "k", 2) is None
    assert read_result(tmp_path, Fingerprint("new", (ENGINE.value,)), "k", 2) is not None
    assert read_result(tmp_path, ENGINE, "other", 2) is None
    assert read_result(tmp_path, ENGINE, "k", 3) is None
    for damaged in (text[:-20], "", "[]", "null", json.dumps({**json.loads(text), "version": 2})):
        (tmp_path / RESULT).write_text(damaged)
        assert read_result(tmp_path, ENGINE, "k", 2) is None


@pytest.mark.parametrize(
    ("stress", "converged", "does"),
    [(None, True, False), (np.eye(3), True, True), (None, False, True)],
    ids=["without", "with", "unconverged"],
)
def test_a_result_of_a_launch_without_stress_does_not_do_for_one_with(
    tmp_path: Path, stress: Any, converged: bool, does: bool
) -> None:
    result = ReferenceResult(-1.0, np.zeros((2, 3)), stress, converged)
    write_result(tmp_path, ENGINE, "k", result, 1.0)
    assert (read_result(tmp_path, ENGINE, "k", 2, wants_stress=True) is not None) == does
    assert read_result(tmp_path, ENGINE, "k", 2) is not None


def test_a_job_computes_the_stress_that_its_spec_asks_for(tmp_path: Path) -> None:
    crystal = bulk("Cu", "fcc", a=3.7, cubic=True)
    system = structure(crystal.numbers, crystal.positions, crystal.cell.array)
    spec = AseSpec("ase.calculators.emt:EMT", system, stress=True)
    engine = fingerprint(spec)
    given = JobInput(spec, engine, "k", system.positions, system.cell, str(tmp_path))
    command = [sys.executable, "-m", "fhi_al.labels.cluster.job", str(os.getpid())]
    subprocess.run(command, input=pickle.dumps(given), cwd=tmp_path, check=True, timeout=60)
    found = read_result(tmp_path, engine, "k", 4, wants_stress=True)
    assert found is not None and found[0].stress is not None
    crystal.calc = EMT()
    assert np.abs(found[0].stress - crystal.get_stress(voigt=False)).max() < 1e-12  # eV/A^3


def test_a_job_is_not_told_that_it_belongs_to_the_drivers_mpi_job() -> None:
    launched = {
        *(
            "PMI_RANK",
            "PMIX_NAMESPACE",
            "OMPI_COMM_WORLD_RANK",
            "HYDI_CONTROL_FD",
            "MPI_LOCALRANKID",
        ),
        *("OMPI_MCA_ess_base_jobid", "PMI_FD"),
    }
    kept = {"PATH", "OMP_NUM_THREADS", "MPICC", "I_MPI_FABRICS", "PMIX", "LMOD_DIR"}
    slurm = {"SLURM_NTASKS", "SLURM_JOB_ID"}
    environment = dict.fromkeys(launched | kept | slurm | {"SLURM_CONF", "BASH_FUNC_x%%"}, "1")
    assert set(launcher_variables(environment)) == launched
    assert set(launcher_variables(environment, slurm=True)) == launched | slurm
    # On the worker what its own script has set stays, and srun needs its Slurm.
    stays = step_environment({**environment, "OMPI_MCA_btl": "tcp", "HYDRA_LAUNCHER": "ssh"})
    assert set(stays) & launched <= {"MPI_LOCALRANKID"}
    assert {"OMPI_MCA_btl", "HYDRA_LAUNCHER"} | kept | slurm <= set(stays)


@pytest.mark.parametrize(
    ("options", "jobs"),
    [
        (ClusterOptions(), 1),
        (ClusterOptions(workers_per_node=4, max_blocks=3), 12),
        (ClusterOptions("slurm", nodes_per_block=8, max_blocks=2), 2),
        (ClusterOptions("slurm", nodes_per_block=8, workers_per_node=2, launcher="srun"), 16),
        (ClusterOptions(max_jobs=7, workers_per_node=4), 7),
    ],
)
def test_as_many_jobs_are_out_as_there_can_be_workers(options: ClusterOptions, jobs: int) -> None:
    assert options.most_jobs == jobs


@pytest.mark.parametrize(
    ("walltime_s", "minutes"), [(59, 1), (60, 1), (61, 2), (3600, 60), (90061, 1502)]
)
def test_a_block_has_whole_minutes_and_not_less_than_was_asked_for(
    walltime_s: int, minutes: int
) -> None:
    assert ClusterOptions("slurm", walltime_s=walltime_s).walltime_minutes == minutes


def test_ending_processes_ends_those_they_started_and_those_that_do_not_listen() -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', {deaf!r}])\n"
            "time.sleep(60)",
        ]
    )
    limit = time.monotonic() + 10.0
    while len(family(parent.pid)) < 2 or len(family(parent.pid)[1].cmdline()) < 3:
        assert time.monotonic() < limit
        time.sleep(0.01)
    time.sleep(0.3)  # until it is deaf
    members = family(parent.pid)
    end_processes(members, grace_s=0.5)
    parent.wait(timeout=5)
    while any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in members):
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_what_all_processes_of_a_job_are_told_does_not_end_parsls_interchange(
    tmp_path: Path,
) -> None:
    """Slurm's ``--signal=USR1`` and ``scancel`` are for the driver; it ends the interchange."""
    (tmp_path / "waiting.py").write_text(
        "import pathlib, time\npathlib.Path('there').touch()\ntime.sleep(60)\n"
    )
    guard = [sys.executable, "-m", "fhi_al.labels.cluster.guard", str(os.getpid()), "waiting"]
    interchange = subprocess.Popen(guard, cwd=tmp_path)
    limit = time.monotonic() + 20.0
    while not (tmp_path / "there").exists():
        assert time.monotonic() < limit and interchange.poll() is None
        time.sleep(0.01)
    for name in ("USR1", "TERM", "INT", "HUP"):
        subprocess.run(["bash", "-c", f"kill -{name} {interchange.pid}"], check=True)
    with pytest.raises(subprocess.TimeoutExpired):
        interchange.wait(0.3)
    interchange.terminate()
    assert interchange.wait(10) == 0


@pytest.mark.parametrize(
    ("command", "here", "words"),
    [
        ("no_such_program -n 2", True, "no program no_such_program"),
        ("no_such_program -n 2", False, None),
        (f"{sys.executable} -n 4 /no/such/aims.x", True, "no /no/such/aims.x"),
        (f"{sys.executable} -n 4", True, None),
        ("bin/aims.x", False, "relative path"),
        ("srun 'aims.x", False, "cannot be taken apart"),
        ("''", True, "no program"),
    ],
)
def test_a_command_that_cannot_be_run_is_found_before_it_is_run(
    command: str, here: bool, words: str | None
) -> None:
    problem = command_problem(command, here=here)
    assert problem is None if words is None else words in (problem or "")


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("aims.x >> aims.log", "'>>'"),
        ("aims.x > out", "'>'"),
        ("aims.x 2>&1", "'2>&1'"),
        ("aims.x &> out", "'&>'"),
        ("aims.x <in", "'<'"),
        ("aims.x | tee out", "'|'"),
        ("module load aims; aims.x", "';'"),
        ("cd x && aims.x", "'&&'"),
        ("aims.x &", "'&'"),
        ("(aims.x)", "'('"),
        ("aims.x\naims.x", "a second line"),
        ("srun -n $SLURM_NTASKS aims.x", "'$SLURM_NTASKS'"),
        ('srun "${HOME}/aims.x"', "'${HOME'"),
        ("srun -n `nproc` aims.x", "'`'"),
        ("srun $(which aims.x)", "'('"),
        ("~/bin/aims.x", "'~/bin/aims.x'"),
        ("aims.x # the new one", "'#'"),
        ("OMP_NUM_THREADS=1 srun aims.x", "'OMP_NUM_THREADS=1'"),
    ],
)
@pytest.mark.parametrize("here", [True, False])
def test_shell_syntax_in_a_command_is_refused_by_name(command: str, here: bool, named: str) -> None:
    problem = command_problem(command, here=here)
    assert problem is not None
    assert problem.startswith(f"{named} is shell syntax, and no shell reads it")


@pytest.mark.parametrize(
    "command",
    [
        "srun --nodelist=node[1-4] --export=ALL,OMP_NUM_THREADS=1 -n 64 /opt/aims.x",
        "srun '/opt/a > b/aims.x' '$HOME' \"it's; (so)\" \\> \"\\$HOME\"",
        "env OMP_NUM_THREADS=1 srun aims#2.x a~",
    ],
)
def test_what_a_shell_would_leave_alone_is_no_shell_syntax(command: str) -> None:
    assert command_problem(command, here=False) is None


def test_without_parsl_it_is_said_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    water = structure([8, 1, 1], [[0.0, 0.0, 0.1], [0.0, 0.8, -0.5], [0.0, -0.8, -0.5]])
    workers = ClusterWorkers([tblite_spec("GFN2-xTB", water)], ClusterOptions(), tmp_path)
    with pytest.raises(EngineError, match=r"pip install 'fhi-al\[cluster\]'"):
        workers.begin(Job("key", 0, water.positions, water.cell))
    workers.close()


def test_workers_are_not_started_for_results_that_are_there(tmp_path: Path) -> None:
    water = structure([8, 1, 1], [[0.0, 0.0, 0.1], [0.0, 0.8, -0.5], [0.0, -0.8, -0.5]])
    specs = [tblite_spec("GFN2-xTB", water)]
    forces = np.zeros((3, 3))
    result = ReferenceResult(-1.0, forces, None, True)
    write_result(tmp_path / "key", fingerprint(specs[0]), "key", result, 2.0)
    workers = ClusterWorkers(specs, ClusterOptions(), tmp_path)
    assert workers.n_free() == 1
    workers.begin(Job("key", 0, water.positions, water.cell))
    assert workers.n_free() == 0
    (finished,) = workers.collect()
    assert isinstance(finished.result, ReferenceResult)
    assert (finished.key, finished.result.energy, finished.seconds) == ("key", -1.0, 2.0)
    workers.close()
    assert not (tmp_path / "parsl").exists()
