"""A driver that is to be killed: three jobs of a second each, in the folder it is given."""

from __future__ import annotations

import sys
from pathlib import Path

from cluster_parts import failing_spec, finish, job
from failing_calculator import SLOW

from fhi_al.labels.cluster.cluster import ClusterWorkers
from fhi_al.labels.cluster.options import ClusterOptions

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    options = ClusterOptions(workers_per_node=2, max_jobs=4, lost_after_s=4)
    workers = ClusterWorkers([failing_spec(folder)], options, folder / "cluster")
    finish(workers, [job(0, seed, SLOW + seed) for seed in range(3)])
