"""Resident memory of ranks that only label: asi_memory.py LIBRARY WORK_DIR."""

from __future__ import annotations

import sys
from pathlib import Path

from asi_setup import asi_spec, report

from fhi_al.parallel import mpi

with mpi.communicator() as comm:
    spec = asi_spec("diamond", Path(sys.argv[1]), Path(sys.argv[2]))
    engine = spec.build(comm)
    engine.calculate(spec.geometry.structure.positions, spec.geometry.structure.cell)
    lines = Path("/proc/self/status").read_text().splitlines()
    resident_kb = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    unwanted = [name for name in ("torch", "mace", "pydantic", "tblite") if name in sys.modules]
    engine.close()
    report(comm, {"resident_mb": resident_kb / 1024, "unwanted": unwanted})
