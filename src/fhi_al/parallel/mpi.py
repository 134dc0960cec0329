"""Who does what among the MPI ranks: rank 0 drives, the others wait for its commands.

Owns the private communicator, the serve loop and the rule that an error on one rank ends the job
on all.  Ranks are assigned by ``layout``.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ase.parallel
from mpi4py import MPI

from fhi_al.core.errors import EngineError
from fhi_al.parallel.layout import RankPlacement

COMMAND_TAG, LABEL_TAG, TRAINING_TAG, PREDICTION_TAG, SERVING_TAG = 1, 2, 3, 4, 5
# Idle ranks poll: a blocking receive burns the core that rank 0's torch needs (measured: 1 s/s).
# Naps grow slowly, so that who has waited for t s loses t/6 at most: MD forces are asked for anew
# every few ms.
SHORTEST_SLEEP_S = 0.00005
LONGEST_SLEEP_S = 0.01
GROWTH = 1.2
# A rank that waits for commands answers within a nap; one in a collective call never does.
ARE_YOU_THERE = "are you there?"
PATIENCE_S = 10.0

Command = tuple[str, Any]


@contextmanager
def communicator() -> Iterator[MPI.Intracomm]:
    """A private communicator, and ASE kept serial; an error that leaves the block ends the job.

    Collective over COMM_WORLD at both ends.
    """
    # ASE broadcasts inside ase.io.write and Langevin.step: on rank 0 alone that broadcast would be
    # taken by a serving rank for its next command.
    before = ase.parallel.world.comm
    ase.parallel.world.comm = ase.parallel.DummyMPI()
    comm = MPI.COMM_WORLD.Dup()
    try:
        yield comm
        comm.Free()
    except SystemExit:
        raise
    except BaseException as error:
        if comm.size > 1:
            end_job(comm, error)
        raise
    finally:
        ase.parallel.world.comm = before


def end_job(comm: MPI.Comm, error: BaseException) -> None:
    """Say what went wrong on this rank, and end those that might wait for it for ever."""
    text = "".join(traceback.format_exception(error))
    with suppress(OSError):
        sys.stdout.flush()
    with suppress(OSError):
        print(f"FHI_AL: rank {comm.rank} failed:\n{text}", file=sys.stderr, flush=True)
    if comm.size > 1:
        comm.Abort(1)


def placements(comm: MPI.Intracomm, omp_threads: str | None) -> list[RankPlacement]:
    """Collective over `comm`: on rank 0 where every rank runs; elsewhere nothing.

    Parameters
    ----------
    comm : communicator
    omp_threads : str or None
        OMP_NUM_THREADS as it was when the process started.
    """
    first = (omp_threads or "").split(",")[0].strip()  # one number per nesting level
    given = int(first) if first.isdigit() and int(first) > 0 else None
    mine = RankPlacement(
        MPI.Get_processor_name(), tuple(sorted(os.sched_getaffinity(0))), given, visible_gpus()
    )
    return comm.gather(mine, root=0) or []


def visible_gpus(driver: Path = Path("/proc/driver/nvidia/gpus")) -> tuple[str, ...]:
    """Names of the NVIDIA GPUs that this process may use, found without torch.

    Parameters
    ----------
    driver : Path
        Folder in which the driver has one entry per GPU.
    """
    if not driver.is_dir():
        return ()
    there = tuple(str(number) for number in range(len(list(driver.iterdir()))))
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return there
    names = [name.strip() for name in chosen.split(",")]
    # As CUDA has it: what follows a name that is none is not visible.
    return tuple(itertools.takewhile(lambda name: name not in ("", "-1"), names))


def not_joined(environment: Mapping[str, str], n_ranks: int) -> str | None:
    """What is to be said where srun has started several processes that MPI has not joined.

    Parameters
    ----------
    environment : mapping of str to str
    n_ranks : int
        As MPI has it.
    """
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "")
    if n_ranks > 1 or not tasks.isdigit() or int(tasks) < 2:
        return None
    return (
        f"srun has started {tasks} processes, and MPI takes each for a run of one rank: expected"
        f" one run of {tasks} ranks. srun must speak the language of the MPI library: try"
        " --mpi=pmi2 or --mpi=pmix (srun --mpi=list names those that are there), or the mpirun of"
        " the library"
    )


def agree(comm: MPI.Comm, error: Exception | None) -> None:
    """Collective over `comm`: return on all ranks if none has an error, raise on all if one has.

    Call it after the local part of a collective operation, with what went wrong here, or None.

    Raises
    ------
    EngineError
        On every rank, naming each rank that failed and its error.
    """
    mine = None if error is None else f"{type(error).__name__}: {error}"
    everyones = [text for text in enumerate(comm.allgather(mine)) if text[1] is not None]
    if everyones:
        if error is not None and not isinstance(error, EngineError):
            traceback.print_exception(error)
        message = "; ".join(f"rank {rank}: {text}" for rank, text in everyones)
        raise EngineError(message) from error


def call(comm: MPI.Comm, name: str, payload: Any = None) -> None:
    """On rank 0: give every serving rank a command.  Rank 0 then does its own part itself."""
    tell(comm, range(1, comm.size), name, payload)


def tell(comm: MPI.Comm, ranks: Iterable[int], name: str, payload: Any = None) -> None:
    """On rank 0: give some ranks a command; each takes it when it has done those before."""
    tell_each(comm, dict.fromkeys(ranks, (name, payload)))


def tell_each(comm: MPI.Comm, commands: Mapping[int, Command]) -> None:
    """On rank 0: give each of some ranks a command of its own."""
    # To all at once: a large message takes until its receiver looks for it, some 20 ms.
    _send([comm.isend(command, dest=rank, tag=COMMAND_TAG) for rank, command in commands.items()])


def answer(comm: MPI.Comm, tag: int, content: Any) -> None:
    """On a serving rank: send rank 0 what came of a command; sleeps until it is taken."""
    _send([comm.isend(content, dest=0, tag=tag)])


def answers(comm: MPI.Comm, tag: int) -> list[tuple[int, Any]]:
    """On rank 0: the answers that have arrived, as (rank, content), without waiting."""
    arrived = []
    status = MPI.Status()
    while (message := comm.improbe(tag=tag, status=status)) is not None:
        arrived.append((status.source, message.recv()))
    return arrived


def _send(pending: list[MPI.Request]) -> None:
    # Large messages wait for the receiver, who may be computing: asleep, not in a blocking send.
    nap = Nap()
    while pending := [request for request in pending if not request.test()[0]]:
        nap.take()


class Nap:
    """Sleeps of growing length for who waits for others: short ones first, to lose little time."""

    def __init__(self) -> None:
        self._next_s = SHORTEST_SLEEP_S

    def take(self) -> None:
        """Sleep once."""
        time.sleep(self._next_s)
        self._next_s = min(GROWTH * self._next_s, LONGEST_SLEEP_S)


def serve(comm: MPI.Comm, act: Callable[[str, Any], None]) -> int:
    """On every other rank: obey commands until "stop"; return the exit code that came with it."""
    while True:
        name, payload = _next_command(comm)
        if name == "stop":
            return int(payload)
        if name == ARE_YOU_THERE:
            answer(comm, SERVING_TAG, payload)
        else:
            act(name, payload)


def all_serve(comm: MPI.Comm, patience_s: float = PATIENCE_S) -> bool:
    """On rank 0: whether every other rank waits for commands, rather than in a collective call."""
    token = time.monotonic()
    call(comm, ARE_YOU_THERE, token)
    missing = set(range(1, comm.size))
    nap = Nap()
    while missing and time.monotonic() < token + patience_s:
        missing -= {rank for rank, content in answers(comm, SERVING_TAG) if content == token}
        nap.take()
    return not missing


def _next_command(comm: MPI.Comm) -> Command:
    nap = Nap()
    while not comm.iprobe(source=0, tag=COMMAND_TAG):
        nap.take()
    command: Command = comm.recv(source=0, tag=COMMAND_TAG)
    return command
