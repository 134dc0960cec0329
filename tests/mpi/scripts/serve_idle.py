"""How much CPU serving ranks use while rank 0 computes: serve_idle.py SECONDS."""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any

from fhi_al.parallel import mpi

used_s: list[float] = []
delay_s: list[float] = []


def cpu_s() -> float:
    """CPU seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def act(name: str, payload: Any) -> None:
    """Take a reading; ``payload`` is the time at which the command was sent."""
    used_s.append(cpu_s())
    delay_s.append(time.time() - payload)


with mpi.communicator() as comm:
    if comm.rank == 0:
        mpi.call(comm, "read", time.time())
        time.sleep(float(sys.argv[1]))
        mpi.call(comm, "read", time.time())
        mpi.call(comm, "stop", 0)
    else:
        mpi.serve(comm, act)
    everyones = comm.gather([used_s, delay_s], root=0)
    if comm.rank == 0:
        print("RESULT " + json.dumps(everyones), flush=True)
