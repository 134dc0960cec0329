"""The process as a run needs it, for the commands and for ``open_run``, and as it was afterwards.

Whatever a run changes in the process as a whole (environment, signals, cores, logging, torch,
memory, ASE's communicator) is put on one stack here, and put back when the stack is unwound, with
or without an error.  Imports what it needs late: the environment must be set before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fhi_al.process.changes import environment
from fhi_al.process.output import output_that_may_close
from fhi_al.process.soft_stop import signals_left_to_rank_0

if TYPE_CHECKING:
    from mpi4py import MPI

    from fhi_al.parallel.layout import RankPlacement


@dataclass(frozen=True, eq=False)
class Process:
    """A rank that is set up for a run.

    Parameters
    ----------
    comm : communicator
        The private one.
    placements : list of RankPlacement
        On rank 0: where each rank runs.
    changes : ExitStack
        Takes what is to be put back in this process.
    """

    comm: MPI.Intracomm
    placements: list[RankPlacement]
    changes: ExitStack

    @property
    def drives(self) -> bool:
        """Whether this is rank 0; the others serve."""
        return self.comm.rank == 0


@contextmanager
def process_set_up() -> Iterator[Process]:
    """Set this process up, and put everything back at the end.

    Collective over COMM_WORLD at both ends; an error that leaves the block ends the job, if there
    are several ranks.
    """
    omp_threads = os.environ.get("OMP_NUM_THREADS")
    defaults = {
        # Before numpy and the engine load OpenMP: n ranks with all cores each would fight for them
        # (measured: a 6 ms call takes 150 ms).
        "OMP_NUM_THREADS": "1",
        # Read when MPI starts: without it MPI_Abort in Open MPI leaves no trace (see crash_trace).
        "OMPI_MCA_mpi_abort_print_stack": "1",
    }
    with ExitStack() as changes:
        changes.enter_context(output_that_may_close())
        missing = {name: value for name, value in defaults.items() if name not in os.environ}
        changes.enter_context(environment(**missing))
        from fhi_al.parallel import mpi

        comm = changes.enter_context(mpi.communicator())
        if comm.rank != 0:
            changes.enter_context(signals_left_to_rank_0())
        yield Process(comm, mpi.placements(comm, omp_threads), changes)


def serve(process: Process) -> int:
    """On every rank but 0: obey rank 0 until it stops; the exit code that it gives."""
    from fhi_al.app.serving import Server
    from fhi_al.parallel import mpi

    return mpi.serve(process.comm, Server(process.comm, process.changes).act)
