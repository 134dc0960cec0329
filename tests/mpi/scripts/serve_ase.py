"""ASE on rank 0 alone between two commands: serve_ase.py FOLDER.

ASE broadcasts inside ase.io.write and Langevin.step if it believes that it runs in parallel; the
other ranks would take that for the next collective call of COMM_WORLD.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from fhi_al.parallel import mpi

with mpi.communicator() as comm:
    message: list[list[Any]] = []

    if comm.rank == 0:
        import ase.io
        from ase.build import bulk
        from ase.calculators.emt import EMT
        from ase.md.langevin import Langevin

        mpi.call(comm, "before", 1)
        atoms = bulk("Cu", cubic=True)
        atoms.calc = EMT()
        Langevin(atoms, 1.0, temperature_K=300, friction=0.1, rng=np.random.default_rng(1)).run(3)
        ase.io.write(Path(sys.argv[1]) / "atoms.xyz", atoms)
        mpi.call(comm, "after", 2)
        mpi.call(comm, "stop", 0)
    else:
        mpi.serve(comm, lambda name, payload: message.append([name, payload]))
    received = MPI.COMM_WORLD.bcast("from rank 0", root=0)
    message.append(["collective", received])
    everyones = comm.gather(message, root=0)
    if comm.rank == 0:
        print("RESULT " + json.dumps(everyones), flush=True)
