"""Rank 0 asks whether the others wait for commands: serve_there.py.

The last rank is then told to go into a collective call, which rank 0 joins later.
"""

from __future__ import annotations

import json
from typing import Any

from fhi_al.parallel import mpi


def act(name: str, payload: Any) -> None:
    """Go into the collective call."""
    pair.Barrier()


with mpi.communicator() as comm:
    last = comm.size - 1
    pair = comm.Split(0 if comm.rank in (0, last) else 1)
    if comm.rank != 0:
        mpi.serve(comm, act)
    else:
        found = [mpi.all_serve(comm)]
        mpi.tell(comm, [last], "collective")
        found.append(mpi.all_serve(comm, patience_s=0.2))
        pair.Barrier()
        found.append(mpi.all_serve(comm))  # a late answer to the last question is none to this one
        mpi.call(comm, "stop", 0)
        print("RESULT " + json.dumps(found), flush=True)
