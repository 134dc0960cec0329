"""Rank 0 commands, the others obey: serve_commands.py.  Reports what each rank was told."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

from fhi_al.parallel import mpi

message: list[list[Any]] = []


def act(name: str, payload: Any) -> None:
    """Remember a command; "sum" is a collective that rank 0 takes part in."""
    if name == "sum":
        payload = comm.allreduce(payload)
    elif isinstance(payload, np.ndarray):
        payload = [float(x).hex() for x in payload]
    message.append([name, payload])


with mpi.communicator() as comm:
    if comm.rank == 0:
        for n in range(50):
            mpi.call(comm, "number", n)
        mpi.call(comm, "array", np.array([0.1, 5e-324, -0.0]))
        mpi.call(comm, "sum", 7)
        total = comm.allreduce(1)
        mpi.call(comm, "nothing")
        mpi.call(comm, "stop", 4)
        code = 4
        message = [["total", total]]
    else:
        code = mpi.serve(comm, act)
    everyones = comm.gather(message, root=0)
    if comm.rank == 0:
        print("RESULT " + json.dumps(everyones), flush=True)
    sys.exit(code)
