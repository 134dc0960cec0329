"""Label geometries in a given order: asi_labels.py SYSTEM LIBRARY WORK_DIR ORDER [CONTROL_LINES].

ORDER: comma-separated seeds; seed s is the system's geometry rattled with generator s (0: as is).
"""

from __future__ import annotations

import sys
from pathlib import Path

from asi_setup import asi_spec, report
from rattled import rattled

from fhi_al.parallel import mpi

with mpi.communicator() as comm:
    system, library, work_dir, order, *more = sys.argv[1:]
    spec = asi_spec(system, Path(library), Path(work_dir), "".join(f"{line}\n" for line in more))
    here = Path.cwd()
    engine = spec.build(comm)
    labels = []
    for seed in map(int, order.split(",")):
        positions, cell = rattled(spec.geometry.structure, seed)
        result = engine.calculate(positions, cell)
        labels.append(
            {
                "energy": float(result.energy).hex(),
                "forces": [float(f).hex() for f in result.forces.ravel()],
                "stress": None if result.stress is None else result.stress.ravel().tolist(),
                "converged": result.converged,
                "message": result.message,
            }
        )
    engine.close()
    engine.close()
    assert Path.cwd() == here
    report(comm, labels)
