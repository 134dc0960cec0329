"""The commands: arguments, exit codes, and the outermost errors.

Exit codes: 0 done, 1 engine or program failure, 2 wrong input, 3 stopped and restartable.
Imports what it needs late: only rank 0 needs more than mpi4py, ASE and the engine.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fhi_al.active_learning.run import Run
    from fhi_al.parallel.mpi import Ranks

DONE, FAILED, WRONG_INPUT, STOPPED = 0, 1, 2, 3

log = logging.getLogger("fhi_al")

Drive = Callable[[argparse.Namespace, "Ranks"], int]


def main(argv: Sequence[str] | None = None) -> int:
    """``FHI_AL``: initial dataset, active learning, convergence."""
    return _command("FHI_AL", main.__doc__, _run_all, argv)


def main_initial_ds(argv: Sequence[str] | None = None) -> int:
    """``FHI_AL-initial-ds``: the initial dataset and the first ensemble only."""
    return _command("FHI_AL-initial-ds", main_initial_ds.__doc__, _run_initial, argv)


def main_al(argv: Sequence[str] | None = None) -> int:
    """``FHI_AL-al``: active learning from a finished initial dataset."""
    return _command("FHI_AL-al", main_al.__doc__, _run_active_learning, argv)


def main_atomic_energies(argv: Sequence[str] | None = None) -> int:
    """``FHI_AL-atomic-energies``: energies of the isolated atoms of geometry.in."""
    return _command(
        "FHI_AL-atomic-energies", main_atomic_energies.__doc__, _run_atomic_energies, argv
    )


def _command(name: str, description: str | None, drive: Drive, argv: Sequence[str] | None) -> int:
    # Before numpy and the engine load OpenMP: n ranks with all cores each would fight for them
    # (measured: a 6 ms call takes 150 ms).
    omp_threads = os.environ.get("OMP_NUM_THREADS")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Read when MPI starts: without it MPI_Abort in Open MPI leaves no trace (see crash_trace).
    os.environ.setdefault("OMPI_MCA_mpi_abort_print_stack", "1")
    from fhi_al.parallel import mpi
    from fhi_al.process.soft_stop import leave_signals_to_rank_0

    comm = mpi.start()
    placements = mpi.placements(comm, omp_threads)
    if comm.rank != 0:
        leave_signals_to_rank_0()
        from fhi_al.app.serving import Server

        return mpi.serve(comm, Server(comm).act)
    code = _run_command(name, description, drive, argv, mpi.Ranks(comm, placements))
    mpi.call(comm, "stop", code)
    return code


def _run_command(
    name: str,
    description: str | None,
    drive: Drive,
    argv: Sequence[str] | None,
    ranks: Ranks,
) -> int:
    """Run a command; errors a user can mend become a message, the others end the job."""
    from fhi_al.core.errors import CannotCompute, EngineError
    from fhi_al.process.soft_stop import Stopped

    try:
        arguments = _parser(name, description).parse_args(argv)
    except SystemExit as end:  # --help, --version, wrong arguments
        return end.code if isinstance(end.code, int) else FAILED
    try:
        return drive(arguments, ranks)
    except Stopped as stopped:
        print(f"{name}: stopped ({stopped}); run the same command again to continue", flush=True)
        return STOPPED
    except EngineError as error:
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        return WRONG_INPUT if isinstance(error, CannotCompute) else FAILED
    except OSError as error:
        # Of rank 0 alone, between two calls of the engine, which turns its own into EngineError.
        print(
            f"{name}: {error.filename or arguments.workdir.resolve()}: {error.strerror or error}: "
            "expected files that can be read, and a folder that can be written and has space left. "
            "What was written before is intact: mend that, then run the same command again.",
            file=sys.stderr,
            flush=True,
        )
        return FAILED
    except Exception as error:
        if not _is_wrong_input(error):
            raise
        print(f"{error}\n{name}: nothing was run.", file=sys.stderr, flush=True)
        return WRONG_INPUT


def _is_wrong_input(error: Exception) -> bool:
    from fhi_al.active_learning.errors import NothingToStartFrom
    from fhi_al.core.errors import InputError
    from fhi_al.labels.store import LabelStoreError
    from fhi_al.settings import SettingsError
    from fhi_al.storage.checkpoint import SnapshotError
    from fhi_al.storage.folder_lock import FolderInUse

    wrong = InputError | SettingsError | NothingToStartFrom | SnapshotError | LabelStoreError
    return isinstance(error, wrong | FolderInUse)


def _parser(name: str, description: str | None) -> argparse.ArgumentParser:
    from importlib.metadata import version

    parser = argparse.ArgumentParser(
        prog=name, description=(description or "").partition(": ")[2], allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"{name} {version('fhi-al')}")
    parser.add_argument(
        "--workdir",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="folder of the inputs and outputs (default: the current one)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="check all inputs, print the resolved settings and the work ahead, run nothing",
    )
    if name == "FHI_AL-atomic-energies":
        parser.add_argument(
            "--elements",
            nargs="+",
            metavar="SYMBOL",
            help="only these elements, for instance one per launch (default: all)",
        )
    return parser


def _run_all(arguments: argparse.Namespace, ranks: Ranks) -> int:
    def act(run: Run) -> None:
        from fhi_al.active_learning.active_learning import ActiveLearningProcedure
        from fhi_al.active_learning.initial_dataset import InitialDatasetProcedure

        InitialDatasetProcedure(run).run()
        ActiveLearningProcedure(run).run()

    return _run(arguments, ranks, "FHI_AL", act)


def _run_initial(arguments: argparse.Namespace, ranks: Ranks) -> int:
    def act(run: Run) -> None:
        from fhi_al.active_learning.initial_dataset import InitialDatasetProcedure

        InitialDatasetProcedure(run).run()

    return _run(arguments, ranks, "FHI_AL-initial-ds", act)


def _run_active_learning(arguments: argparse.Namespace, ranks: Ranks) -> int:
    def act(run: Run) -> None:
        from fhi_al.active_learning.active_learning import ActiveLearningProcedure
        from fhi_al.active_learning.import_initial import import_initial

        if run.state.stage.is_initial:
            import_initial(run)
        ActiveLearningProcedure(run).run()

    return _run(arguments, ranks, "FHI_AL-al", act)


def _run(arguments: argparse.Namespace, ranks: Ranks, name: str, act: Callable[[Run], None]) -> int:
    from fhi_al.app import open as opening
    from fhi_al.app.needs import Command

    command = Command(name)
    if arguments.check:
        print("\n".join(opening.checked(arguments.workdir, ranks, command)))
        return DONE
    with opening.prepared(arguments.workdir, ranks, command) as prepared:
        if prepared.needs.is_nothing:
            opening.report_finished(prepared)
            return DONE
        with opening.wired(prepared, ranks) as run:
            act(run)
    return DONE


def _run_atomic_energies(arguments: argparse.Namespace, ranks: Ranks) -> int:
    from fhi_al.app import atomic_energies

    folder = arguments.workdir.resolve()
    if arguments.check:
        print("\n".join(atomic_energies.checked(folder, arguments.elements)))
        return DONE
    atomic_energies.compute(folder, arguments.elements, ranks.comm)
    return DONE
