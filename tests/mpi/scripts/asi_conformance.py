"""The public check of engines on the ASI library: asi_conformance.py SYSTEM LIBRARY WORK_DIR."""

from __future__ import annotations

import sys
from pathlib import Path

from asi_setup import asi_spec, report

from fhi_al.engines.conformance import NotConforming, check
from fhi_al.parallel import mpi

with mpi.communicator() as comm:
    system, library, work_dir = sys.argv[1:]
    spec = asi_spec(system, Path(library), Path(work_dir))
    try:
        check(spec.build(comm), spec.structure)
        problems: list[str] = []
    except NotConforming as error:
        problems = error.problems
    report(comm, problems)
