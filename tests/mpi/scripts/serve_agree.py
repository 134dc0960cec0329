"""Agree on errors: serve_agree.py.  Reports what each rank saw in each case."""

from __future__ import annotations

import json

from fhi_al.core.errors import EngineError
from fhi_al.parallel import mpi


def seen(error: Exception | None) -> list[str | None]:
    """What agreeing raised here, and its cause."""
    try:
        mpi.agree(comm, error)
    except EngineError as raised:
        return [str(raised), None if raised.__cause__ is None else repr(raised.__cause__)]
    return [None, None]


with mpi.communicator() as comm:
    cases: dict[str, dict[int, Exception]] = {
        "none": {},
        "rank 0": {0: ValueError("zero is wrong")},
        "last rank": {comm.size - 1: OSError("the disk is gone")},
        "all": {rank: RuntimeError(f"words of {rank}") for rank in range(comm.size)},
        "none again": {},
    }
    mine = {name: seen(errors.get(comm.rank)) for name, errors in cases.items()}
    everyones = comm.gather(mine, root=0)
    if comm.rank == 0:
        print("RESULT " + json.dumps(everyones), flush=True)
