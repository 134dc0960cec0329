"""Rank assignment of a run: which rank does what, with how many threads on which cores.

Owns the cores that processes may use.  The rules are in ``layout``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fhi_al.active_learning.restart import Continuation
from fhi_al.app.process_set_up import Process
from fhi_al.app.systems_apart import system_names, systems_apart
from fhi_al.core.errors import InputError
from fhi_al.engines.inputs import Inputs
from fhi_al.engines.registry import engine_kind
from fhi_al.parallel import mpi
from fhi_al.parallel.layout import (
    Layout,
    LayoutError,
    RankPlacement,
    most_training_ranks,
    table,
)
from fhi_al.parallel.layout import layout as assign
from fhi_al.parallel.threads import training_threads, widened
from fhi_al.process.changes import cores, environment
from fhi_al.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RankAssignment:
    """Who does what: the layout, and the threads of each rank that trains."""

    layout: Layout
    threads: int
    placements: tuple[RankPlacement, ...]

    def local_index(self, rank: int) -> int:
        """Which of the training ranks on its host a rank is, counted from 0."""
        host = self.placements[rank].host
        return [r for r in self.layout.training if self.placements[r].host == host].index(rank)


def rank_layout(
    settings: Settings, placements: Sequence[RankPlacement], inputs: Inputs | None = None
) -> Layout:
    """Which rank does what.

    Parameters
    ----------
    settings : Settings
    placements : sequence of RankPlacement
        Where each rank runs.
    inputs : Inputs or None
        The systems whose labels are computed; None where no label is.

    Raises
    ------
    InputError
        If the settings, or the systems, ask for more ranks than there are.
    """
    al = settings.al
    assert settings.mace is not None
    misc = settings.mace.misc
    threads = misc.num_threads or placements[0].omp_threads or 1
    try:
        return assign(
            len(placements),
            parallel=al.parallel,
            training_ranks=None if al.training_ranks == "auto" else al.training_ranks,
            reference_groups=al.reference_groups,
            shared_engine=engine_kind(settings).calls_are_collective,
            elsewhere=al.cluster is not None,
            most_training=most_training_ranks(placements, al.ensemble_size, threads, misc.device),
            systems_apart=1 if inputs is None else systems_apart(settings, inputs),
        )
    except LayoutError as error:
        problem = settings.problem("active_learning", f"ACTIVE_LEARNING.{error.key}", str(error))
        raise InputError([str(problem)]) from error


def assign_ranks(
    settings: Settings, process: Process, found: Continuation | None, inputs: Inputs | None
) -> RankAssignment:
    """Assign the ranks, give those that train their cores, and log it.

    Before torch starts: its threads live on the cores that the process may use then.

    Parameters
    ----------
    settings : Settings
    process : Process
        Of rank 0; the other ranks serve.
    found : Continuation or None
        What the run continues from.
    inputs : Inputs or None
        As for :func:`rank_layout`.

    Raises
    ------
    InputError
        As :func:`rank_layout`.
    """
    assert settings.mace is not None
    layout = rank_layout(settings, process.placements, inputs)
    misc = settings.mace.misc
    given = misc.num_threads
    if given is None and process.placements[0].omp_threads is None and found is not None:
        # Another number gives other last bits: a resumed run would not be the same.
        given = found.threads
    threads = training_threads(given, layout, process.placements)
    placements = _with_cores(layout, process, threads)
    names = [] if inputs is None else system_names(inputs)
    for line in table(layout, placements, threads, misc.device, names):
        log.info("layout: %s", line)
    if settings.al.cluster is not None:
        log.info("layout: labels: jobs on a cluster (%s)", settings.al.cluster.provider)
    elif layout.parallel and not layout.groups:
        log.warning(
            "ACTIVE_LEARNING.parallel: no rank is left to compute labels in the background, rank 0 "
            "computes them: start more ranks than training_ranks (mpirun -n)"
        )
    process.changes.enter_context(environment(OMP_NUM_THREADS=str(threads)))
    return RankAssignment(layout, threads, tuple(placements))


def _with_cores(layout: Layout, process: Process, threads: int) -> list[RankPlacement]:
    """Let every rank that trains use as many cores as it has threads; where they are then."""
    placements = list(process.placements)
    for rank in layout.training:
        more = widened(placements[rank], threads, placements)
        if more is not None:
            log.info(
                "rank %d was bound to cores %s, too few for %d threads: it may use %s now",
                rank,
                list(placements[rank].cores),
                threads,
                list(more),
            )
            placements[rank] = replace(placements[rank], cores=more)
            if rank == 0:
                process.changes.enter_context(cores(more))
            else:
                mpi.tell(process.comm, [rank], "use cores", more)
        if len(placements[rank].cores) < threads:
            log.warning(
                "rank %d has %d core(s) for %d threads: expected as many. Start fewer ranks per "
                "host, let the launcher bind them less tightly (srun --cpu-bind=none, mpirun "
                "--bind-to none), or lower MISC.num_threads",
                rank,
                len(placements[rank].cores),
                threads,
            )
    return placements
