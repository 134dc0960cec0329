"""The commands: arguments, exit codes, and the outermost errors.

Exit codes: 0 done, 1 engine or program failure, 2 wrong input, 3 stopped and restartable.
Imports what it needs late: only rank 0 needs more than mpi4py, ASE and the engine.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fhi_al.app import completion
from fhi_al.app.arguments import BARS, bare_parser, parser_of
from fhi_al.app.exit_codes import DONE, FAILED, STOPPED, exit_code
from fhi_al.core.errors import EngineError
from fhi_al.process.output import output_that_may_close

if TYPE_CHECKING:
    from fhi_al.active_learning.run import Run
    from fhi_al.app.prepare import Prepared
    from fhi_al.app.process_set_up import Process

log = logging.getLogger("fhi_al")

Drive = Callable[[argparse.Namespace, "Process"], int]


def main(argv: Sequence[str] | None = None) -> int:
    """``FHI_AL``: initial dataset, active learning, convergence."""
    return _command("FHI_AL", main.__doc__, _run_all, argv)


def main_initial_ds(argv: Sequence[str] | None = None) -> int:
    """``FHI_AL-initial-ds``: the initial dataset and the first ensemble only."""
    return _command("FHI_AL-initial-ds", main_initial_ds.__doc__, _run_initial, argv)


def main_al(argv: Sequence[str] | None = None) -> int:
    """``FHI_AL-al``: active learning from a finished initial dataset, or from your own data."""
    return _command("FHI_AL-al", main_al.__doc__, _run_active_learning, argv)


def main_atomic_energies(argv: Sequence[str] | None = None) -> int:
    """``FHI_AL-atomic-energies``: energies of the isolated atoms of geometry.in."""
    return _command(
        "FHI_AL-atomic-energies", main_atomic_energies.__doc__, _run_atomic_energies, argv
    )


def main_label(argv: Sequence[str] | None = None) -> int:
    """``FHI_AL-label``: energies and forces of the structures of a file, by the run's engine."""
    return _command("FHI_AL-label", main_label.__doc__, _run_label, argv)


def main_evaluate(argv: Sequence[str] | None = None) -> int:
    """``FHI_AL-evaluate``: errors of models on labelled structures, or on an MD of the engine."""
    return _command("FHI_AL-evaluate", main_evaluate.__doc__, _run_evaluate, argv)


def main_init(argv: Sequence[str] | None = None) -> int:
    """``FHI_AL-init``: a folder that runs, from a structure, or a copy of a shipped example."""
    from fhi_al.app.new_run import arguments, command

    return _alone("FHI_AL-init", main_init.__doc__, arguments.add_arguments, command.act, argv)


def main_status(argv: Sequence[str] | None = None) -> int:
    """``FHI_AL-status``: what runs are at; which go on, have ended, were killed."""
    from fhi_al.app import watching

    try:
        return _alone(
            "FHI_AL-status", main_status.__doc__, watching.add_arguments, watching.act, argv
        )
    except KeyboardInterrupt:  # the way to leave --watch
        return DONE


def main_completion(argv: Sequence[str] | None = None) -> int:
    """``FHI_AL-completion``: tab completion of all commands, for a shell to read."""
    about = main_completion.__doc__
    return _alone("FHI_AL-completion", about, completion.add_arguments, completion.act, argv)


def main_report(argv: Sequence[str] | None = None) -> int:
    """``FHI_AL-report``: what a run was asked and what came out, with figures, as one HTML file."""
    from fhi_al.app import report_command

    return _alone(
        "FHI_AL-report",
        main_report.__doc__,
        report_command.add_arguments,
        report_command.act,
        argv,
    )


def _alone(
    name: str,
    description: str | None,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    act: Callable[[argparse.Namespace], Iterable[str]],
    argv: Sequence[str] | None,
) -> int:
    """Run a command that takes no MPI, which says what it does line by line."""
    parser = bare_parser(name, description)
    add_arguments(parser)
    completion.complete(parser)
    arguments = parser.parse_args(argv)
    with output_that_may_close():
        try:
            for line in act(arguments):
                print(line, flush=True)
        except Exception as error:
            known = exit_code(error)
            if known is None:
                raise
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            return known
    return DONE


def _command(name: str, description: str | None, drive: Drive, argv: Sequence[str] | None) -> int:
    if completion.asks_for_completion(sys.argv[1:] if argv is None else argv):
        parser_of(name, description).parse_args(argv)  # prints it and ends, without MPI
    from fhi_al.app.process_set_up import process_set_up, serve

    with process_set_up() as process:
        from fhi_al.parallel import mpi

        if not process.drives:
            return serve(process)
        not_joined = mpi.not_joined(os.environ, process.comm.size)
        if not_joined is not None:
            print(f"{name}: {not_joined}.", file=sys.stderr, flush=True)
        code = _run_command(name, description, drive, argv, process)
        mpi.call(process.comm, "stop", code)
        return code


def _run_command(
    name: str,
    description: str | None,
    drive: Drive,
    argv: Sequence[str] | None,
    process: Process,
) -> int:
    """Run a command; errors a user can fix become a message, the others end the job."""
    try:
        arguments = parser_of(name, description).parse_args(argv)
    except SystemExit as end:  # --help, --version, wrong arguments
        return end.code if isinstance(end.code, int) else FAILED
    try:
        code = drive(arguments, process)
        sys.stdout.flush()
        return code
    except Exception as error:
        known = exit_code(error)
        if known is None:
            from fhi_al.parallel import mpi

            mpi.end_job(process.comm, error)
            return FAILED
        _tell(name, error, known, arguments.workdir.resolve())
        return known


def _tell(name: str, error: Exception, code: int, folder: Path) -> None:
    """Say what a command ended with, and what to do about it."""
    if code == STOPPED:
        print(f"{name}: stopped ({error}); run the same command again to continue", flush=True)
    elif isinstance(error, EngineError):
        print(f"{name}: {error}", file=sys.stderr, flush=True)
    elif isinstance(error, OSError):
        # Of rank 0 alone, between two calls of the engine, which turns its own into EngineError.
        print(
            f"{name}: {error.filename or folder}: {error.strerror or error}: "
            "expected files that can be read, and a folder that can be written and has space left. "
            "What was written before is intact: fix that, then run the same command again.",
            file=sys.stderr,
            flush=True,
        )
    else:
        print(f"{error}\n{name}: nothing was run.", file=sys.stderr, flush=True)


def _run_all(arguments: argparse.Namespace, process: Process) -> int:
    def act(run: Run, prepared: Prepared) -> None:
        from fhi_al.active_learning.active_learning import ActiveLearningProcedure
        from fhi_al.active_learning.initial_dataset import InitialDatasetProcedure

        InitialDatasetProcedure(run).run()
        ActiveLearningProcedure(run).run()

    return _run(arguments, process, "FHI_AL", act)


def _run_initial(arguments: argparse.Namespace, process: Process) -> int:
    def act(run: Run, prepared: Prepared) -> None:
        from fhi_al.active_learning.initial_dataset import InitialDatasetProcedure

        InitialDatasetProcedure(run).run()

    return _run(arguments, process, "FHI_AL-initial-ds", act)


def _run_active_learning(arguments: argparse.Namespace, process: Process) -> int:
    def act(run: Run, prepared: Prepared) -> None:
        from fhi_al.active_learning.active_learning import ActiveLearningProcedure
        from fhi_al.active_learning.import_initial import import_initial
        from fhi_al.active_learning.initial_dataset import InitialDatasetProcedure

        if run.initial_data is not None and run.initial_data.models:
            import_initial(run, run.initial_data)
        elif prepared.needs.initial_data:
            InitialDatasetProcedure(run, samples=False).run()
        ActiveLearningProcedure(run).run()

    return _run(arguments, process, "FHI_AL-al", act)


def _run(
    arguments: argparse.Namespace, process: Process, name: str, act: Callable[[Run, Prepared], None]
) -> int:
    from fhi_al.app import open as opening
    from fhi_al.app.definition import Definition, definition_of
    from fhi_al.app.needs import Command
    from fhi_al.app.prepare import checked

    command = Command(name)

    def define() -> Definition:
        return definition_of(arguments.workdir, arguments.given)

    if arguments.check:
        print("\n".join(checked(define, process, command)))
        return DONE
    with opening.prepared(define, process, command) as prepared:
        if prepared.needs.is_nothing:
            opening.report_finished(prepared)
            return DONE
        with opening.wired(prepared, process, BARS[arguments.progress]) as run:
            act(run, prepared)
    return DONE


def _run_atomic_energies(arguments: argparse.Namespace, process: Process) -> int:
    from fhi_al.app import atomic_energies

    folder = arguments.workdir.resolve()
    if arguments.check:
        print("\n".join(atomic_energies.checked(folder, arguments.elements, arguments.given)))
        return DONE
    atomic_energies.compute(folder, arguments.elements, process, arguments.given)
    return DONE


def _run_label(arguments: argparse.Namespace, process: Process) -> int:
    from fhi_al.app.label import command
    from fhi_al.app.label.work import LabelOrder

    folder = arguments.workdir.resolve()
    order = LabelOrder(
        arguments.file,
        arguments.output,
        arguments.select,
        arguments.model,
        stress=arguments.stress,
        retry=arguments.retry,
        given=tuple(arguments.given),
    )
    if arguments.check:
        print("\n".join(command.checked(folder, order, process)))
        return DONE
    command.compute(folder, order, process, BARS[arguments.progress])
    return DONE


def _run_evaluate(arguments: argparse.Namespace, process: Process) -> int:
    from fhi_al.app.evaluate import command
    from fhi_al.app.evaluate.arguments import order_of

    folder, order = arguments.workdir.resolve(), order_of(arguments)
    if arguments.check:
        print("\n".join(command.checked(folder, order, process)))
        return DONE
    bars = BARS[arguments.progress]
    found = command.evaluate(folder, order, process, quiet=arguments.json, bars=bars)
    print(found.as_json() if arguments.json else "\n".join(found.lines))
    return DONE
