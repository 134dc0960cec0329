"""End a job in one way or another: serve_errors.py WHAT.

WHAT: a function below.
"""

from __future__ import annotations

import sys
import time
from typing import Any, NoReturn

from fhi_al.parallel import mpi


class Failure(Exception):
    """What goes wrong here."""


def act(name: str, payload: Any) -> None:
    """Fail on the last rank only; the others go on serving."""
    if comm.rank == comm.size - 1:
        raise Failure(f"rank {comm.rank} was told to {name}")


def serving() -> NoReturn:
    """A serving rank fails while rank 0 computes."""
    if comm.rank == 0:
        mpi.call(comm, "fail")
        time.sleep(600)
    sys.exit(mpi.serve(comm, act))


def serving_in_collective() -> NoReturn:
    """A serving rank fails while rank 0 waits for it in a collective call."""
    if comm.rank == 0:
        mpi.call(comm, "fail")
        comm.Barrier()
    sys.exit(mpi.serve(comm, act))


def driving() -> NoReturn:
    """Rank 0 fails while the others wait for commands."""
    if comm.rank == 0:
        raise Failure("rank 0 has a bug")
    sys.exit(mpi.serve(comm, act))


def driving_in_collective() -> NoReturn:
    """Rank 0 fails while the others are in a collective call."""
    if comm.rank == 0:
        time.sleep(0.2)
        raise Failure("rank 0 has a bug")
    comm.Barrier()
    sys.exit(0)


with mpi.communicator() as comm:
    globals()[sys.argv[1]]()
