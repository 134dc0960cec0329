"""``python -m fhi_al.labels.cluster.job PID``: compute one structure, in a process of its own.

Reads a pickled :class:`JobInput` from standard input, which a worker has from the driver through
Parsl's encrypted connection, and writes result.json into the job's folder.  Works in the current
folder.  Loads neither MPI nor torch, unless the calculator does.
"""

from __future__ import annotations

import pickle
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from fhi_al.core.errors import CannotCompute, EngineError
from fhi_al.core.structure import Array
from fhi_al.engines.engine import ReferenceResult
from fhi_al.engines.fingerprint import Fingerprint
from fhi_al.engines.spec import EngineSpec
from fhi_al.labels.cluster.processes import end_with
from fhi_al.labels.cluster.result import read_result, write_result
from fhi_al.labels.cluster.worker import CANNOT, WHY


@dataclass(frozen=True, eq=False)
class JobInput:
    """What a job computes.

    Parameters
    ----------
    spec : EngineSpec
    engine : Fingerprint
        Of the engines.
    key : str
        Name of the geometry.
    positions : (n_atoms, 3)
        In A.
    cell : (3, 3)
        In A; zeros for a molecule.
    folder : str
        The job's, for the result.
    """

    spec: EngineSpec
    engine: Fingerprint
    key: str
    positions: Array
    cell: Array
    folder: str


def main() -> int:
    """Compute; the exit code is 0 if there is a result.

    Else why.txt says why there is none, or cannot.txt why there will be none for any geometry.
    """
    end_with(int(sys.argv[1]))
    try:
        # A pickle, for the arguments of a calculator may be any objects.  It comes from the worker
        # that started this process, and it has it from the driver: nobody else writes it.
        _compute(pickle.load(sys.stdin.buffer))
    except EngineError as error:
        Path(CANNOT if isinstance(error, CannotCompute) else WHY).write_text(str(error))
        return 1
    except Exception as error:  # a foreign calculator may raise anything
        traceback.print_exc()
        Path(WHY).write_text(f"{type(error).__name__}: {error}")
        return 1
    return 0


def _compute(job: JobInput) -> None:
    folder = Path(job.folder)
    # A worker that its driver took for lost may have finished after all.
    n_atoms, wants_stress = len(job.spec.structure), job.spec.wants_stress
    if read_result(folder, job.engine, job.key, n_atoms, wants_stress) is not None:
        return
    started = time.monotonic()
    result = _result(job)
    write_result(folder, job.engine, job.key, result, time.monotonic() - started)


def _result(job: JobInput) -> ReferenceResult:
    engine = job.spec.build(None)
    try:
        return engine.calculate(job.positions, job.cell)
    finally:
        engine.close()


if __name__ == "__main__":
    # Pickle must find the classes under their own name, not in __main__.
    from fhi_al.labels.cluster import job as cluster_job

    sys.exit(cluster_job.main())
