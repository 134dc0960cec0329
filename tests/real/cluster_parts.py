"""Jobs for a cluster, waiting for them, and the processes that they leave behind."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
from ase.build import molecule

from fhi_al.core.structure import Structure, geometry_key, structure
from fhi_al.engines.spec import AseSpec
from fhi_al.labels.cluster.cluster import ClusterWorkers
from fhi_al.labels.workers import Finished, Job

# Python finds the calculators of the tests here.
PLACES = (str(Path(__file__).parents[2] / "src"), str(Path(__file__).parent))


def water() -> Structure:
    atoms = molecule("H2O")
    return structure(atoms.numbers, atoms.positions)


def failing_spec(folder: Path) -> AseSpec:
    calls = {"calls": str(folder / "calls.txt")}
    return AseSpec("failing_calculator.FailingCalculator", water(), calls)


def calls(folder: Path) -> list[float]:
    """Where the first atom lay in each call of the failing calculator."""
    path = folder / "calls.txt"
    return [float(word) for word in path.read_text().split()] if path.exists() else []


def job(system: int, seed: int, x: float | None = None) -> Job:
    """A rattled water molecule; all of it is moved so that its first atom lies at x."""
    shape = water()
    positions = shape.positions + 0.02 * np.random.default_rng(seed).standard_normal((3, 3))
    if x is not None:
        positions[:, 0] += x - positions[0, 0]
    return Job(geometry_key(system, positions, shape.cell), system, positions, shape.cell)


def finish(
    workers: ClusterWorkers, jobs: Sequence[Job], limit_s: float = 60.0
) -> dict[str, Finished]:
    """Begin jobs as there is room, and wait for all of them; others that were out may come, too."""
    end = time.monotonic() + limit_s
    waiting, done = list(jobs), dict[str, Finished]()
    while missing := {each.key for each in jobs} - done.keys():
        assert time.monotonic() < end, f"{len(missing)} of {len(jobs)} jobs did not come back"
        while waiting and workers.n_free():
            workers.begin(waiting.pop(0))
        for finished in workers.collect():
            assert finished.key not in done
            done[finished.key] = finished
        time.sleep(0.05)
    return done


def processes_of(folder: Path) -> set[psutil.Process]:
    """Running processes that were started from a run's ``cluster/`` or work in it."""
    found: set[psutil.Process] = set()
    for process in psutil.process_iter():
        try:
            words = " ".join(process.cmdline())
            if str(folder) in words or process.cwd().startswith(str(folder)):
                found |= {process, *process.children(recursive=True)}
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return {process for process in found if runs(process)}


def runs(process: psutil.Process) -> bool:
    """Whether a process is at work; a dead one that nobody has collected is not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(processes: set[psutil.Process], limit_s: float) -> None:
    end = time.monotonic() + limit_s
    while alive := [process for process in processes if runs(process)]:
        assert time.monotonic() < end, alive
        time.sleep(0.05)


def python_path() -> str:
    return ":".join([*PLACES, *(place for place in sys.path if place)])
