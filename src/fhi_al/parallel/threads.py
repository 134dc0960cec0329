"""Threads of the ranks that train, and the cores they may use.  Pure: no MPI, no torch."""

from __future__ import annotations

from collections.abc import Sequence

from fhi_al.parallel.layout import Layout, RankPlacement, cores_of_host

# Small batches of small systems: more threads than these gained nothing, see
# docs/explanation/scaling.md.
MOST_THREADS = 4


def training_threads(given: int | None, layout: Layout, placements: Sequence[RankPlacement]) -> int:
    """Threads of each rank that trains.

    Parameters
    ----------
    given : int or None
        MISC.num_threads, which decides where it is set; else OMP_NUM_THREADS does.
    layout : Layout
    placements : sequence of RankPlacement
        One per rank.

    Notes
    -----
    Without either, a serial run has one, so that its results do not depend on the machine; in
    parallel mode the cores of a host that no other rank computes on are shared among its training
    ranks, at most four each.
    """
    given = given or placements[0].omp_threads
    if given is not None:
        return given
    if not layout.parallel:
        return 1
    fewest = MOST_THREADS
    for rank in layout.training:
        here = [
            r for r, placement in enumerate(placements) if placement.host == placements[rank].host
        ]
        n_cores = len(cores_of_host(placements[rank].host, placements))
        labelling = sum(any(r in group for group in layout.groups) for r in here)
        training = sum(r in layout.training for r in here)
        fewest = min(fewest, max(1, (n_cores - labelling) // training))
    return fewest


def widened(
    placement: RankPlacement, n_threads: int, placements: Sequence[RankPlacement]
) -> tuple[int, ...] | None:
    """Cores to give a rank that its launcher has bound to fewer than its threads need.

    None if it has enough, or there are no more.
    """
    if len(placement.cores) >= n_threads:
        return None
    of_host = cores_of_host(placement.host, placements)
    return of_host if len(of_host) > len(placement.cores) else None
