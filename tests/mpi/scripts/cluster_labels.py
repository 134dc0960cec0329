"""Rank 0 has labels computed as jobs on local workers: cluster_labels.py FOLDER.

The jobs must not take themselves for ranks of this job: the executable initialises MPI.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from mpi4py import MPI

from fhi_al.core.structure import geometry_key, structure
from fhi_al.engines.ase_calculator import AseEngine
from fhi_al.engines.spec import AseSpec
from fhi_al.engines.tblite import tblite_spec
from fhi_al.labels.cluster.cluster import ClusterWorkers
from fhi_al.labels.cluster.options import ClusterOptions
from fhi_al.labels.workers import Job
from fhi_al.parallel import mpi

with mpi.communicator() as comm:
    if comm.rank == 0:
        water = structure([8, 1, 1], [[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])
        specs = [tblite_spec("GFN2-xTB", water), AseSpec("mpi_calculator.WorldSize", water)]
        options = ClusterOptions(workers_per_node=2, max_jobs=2, attempts=1, job_timeout_s=20.0)
        workers = ClusterWorkers(specs, options, Path(sys.argv[1]))
        message = {}
        try:
            for system in range(2):
                key = geometry_key(system, water.positions, water.cell)
                workers.begin(Job(key, system, water.positions, water.cell))
            end = time.monotonic() + 45.0
            while len(message) < 2 and time.monotonic() < end:
                for done in workers.collect():
                    message[done.key] = (
                        done.result if isinstance(done.result, str) else done.result.energy
                    )
                mpi.call(comm, "look", len(message))
                time.sleep(0.1)
        finally:
            workers.close()
        expected = AseEngine(specs[0]).calculate(water.positions, water.cell).energy
        keys = [geometry_key(system, water.positions, water.cell) for system in range(2)]
        print("RESULT " + json.dumps([*(message.get(key) for key in keys), expected]), flush=True)
        mpi.call(comm, "stop", 0)
    else:
        mpi.serve(comm, lambda name, payload: None)
    MPI.COMM_WORLD.Barrier()
