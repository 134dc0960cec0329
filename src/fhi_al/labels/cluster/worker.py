"""On a worker of the cluster: run one job in a process of its own, within its time.

Imports neither numpy nor Parsl: the worker only starts the process and waits for it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from fhi_al.labels.cluster.processes import end_processes, family, step_environment

ATTEMPT = "attempt_"
LOG, WHY, CANNOT = "job.log", "why.txt", "cannot.txt"
LAST_LINES = 15
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class JobOrder:
    """What a worker gets.

    Parameters
    ----------
    payload : bytes
        For :mod:`fhi_al.labels.cluster.job`; the worker does not look into it.
    folder : str
        The job's folder, on a file system that worker and driver share.
    timeout_s : float
        After which the calculation is killed.
    threads : int
    output_files : tuple of str
        What the engine writes that says why it failed.
    """

    payload: bytes
    folder: str
    timeout_s: float
    threads: int
    output_files: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobReport:
    """What a worker gives back.

    Parameters
    ----------
    result : str or None
        The text of result.json; None if there is none.
    why : str
        Why there is none.
    output : str
        The last lines of the calculation's output, where there is no result.
    seconds : float
        Wall time of the attempt.
    cannot_compute : bool
        No geometry of the system can be computed.
    """

    result: str | None
    why: str
    output: str
    seconds: float
    cannot_compute: bool = False


def run_job(order: JobOrder) -> JobReport:
    """Run a job; whatever becomes of it is in the report."""
    started = time.monotonic()
    folder = Path(order.folder)
    attempt = _new_folder(folder)
    why = _run(order, attempt)
    seconds = time.monotonic() - started
    if why is None:
        text = (folder / "result.json").read_text()
        _tidy(attempt)
        return JobReport(text, "", "", seconds)
    cannot_compute = (attempt / CANNOT).is_file()
    return JobReport(None, why, _last_lines(attempt, order.output_files), seconds, cannot_compute)


def attempts_begun(folder: Path) -> int:
    """How many attempts at a job have begun, but for one that left a result and nothing else."""
    return len(list(folder.glob(f"{ATTEMPT}*")))


def _new_folder(folder: Path) -> Path:
    """A folder for this attempt alone: a lost worker may still write to that of its own."""
    for number in itertools.count(1):
        attempt = folder / f"{ATTEMPT}{number}"
        with contextlib.suppress(FileExistsError):
            attempt.mkdir(parents=True)
            return attempt
    raise AssertionError("unreachable")


def _run(order: JobOrder, attempt: Path) -> str | None:
    """Why the process gave no result; None if it did."""
    environment = step_environment(os.environ) | dict.fromkeys(THREADS, str(order.threads))
    if "PYTHONPATH" in environment:
        # The job runs in another folder: what is relative counts from here.
        places = environment["PYTHONPATH"].split(os.pathsep)
        environment["PYTHONPATH"] = os.pathsep.join(str(Path(p).resolve()) for p in places)
    command = [sys.executable, "-P", "-m", "fhi_al.labels.cluster.job", str(os.getpid())]
    with (attempt / LOG).open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=attempt,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            process.communicate(order.payload, timeout=order.timeout_s)
        except subprocess.TimeoutExpired:
            end_processes(family(process.pid))
            process.wait()
            return f"it took longer than job_timeout = {order.timeout_s:g} s"
    if process.returncode == 0:
        return None
    for name in (WHY, CANNOT):
        with contextlib.suppress(OSError):
            return (attempt / name).read_text().strip()
    if process.returncode < 0:
        return f"it was killed by {signal.Signals(-process.returncode).name}"
    return f"it ended with exit code {process.returncode} and without a word"


def _last_lines(attempt: Path, output_files: tuple[str, ...]) -> str:
    # The engine's own files say more than the log of the process around it.
    for name in (*output_files, LOG):
        with contextlib.suppress(OSError):
            lines = (attempt / name).read_text(errors="replace").splitlines()
            if any(line.strip() for line in lines):
                return "\n".join([f"{attempt / name}:", *lines[-LAST_LINES:]])
    return ""


def _tidy(attempt: Path) -> None:
    """Remove the folder of an attempt that left nothing behind."""
    with contextlib.suppress(OSError):
        if (attempt / LOG).stat().st_size == 0:
            (attempt / LOG).unlink()
        attempt.rmdir()
