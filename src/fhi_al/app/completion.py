"""Tab completion of all commands, and the examples in their help."""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout, suppress
from importlib.metadata import distribution
from pathlib import Path

import shtab

OPTION = "--print-completion"
SHELLS = tuple(shtab.SUPPORTED_SHELLS)
FOLDERS = ("DIR", "FOLDER")

HELP_EXAMPLES = """\
examples, for one shell and for all that follow:
  eval "$(FHI_AL-completion bash)"
  echo 'eval "$(FHI_AL-completion bash)"' >> ~/.bashrc
"""
# Of the commands that have no module of their own.
EXAMPLES = {
    "FHI_AL": """\
examples:
  FHI_AL --workdir run --check
  mpirun -n 4 FHI_AL --workdir run
  mpirun -n 4 FHI_AL --workdir run --set ACTIVE_LEARNING.c_x=0.2
""",
    "FHI_AL-initial-ds": "example:\n  mpirun -n 4 FHI_AL-initial-ds --workdir run\n",
    "FHI_AL-al": "example:\n  mpirun -n 4 FHI_AL-al --workdir run\n",
    "FHI_AL-atomic-energies": """\
examples:
  srun FHI_AL-atomic-energies --workdir run
  srun FHI_AL-atomic-energies --workdir run --elements O
""",
    "FHI_AL-label": """\
examples:
  mpirun -n 4 FHI_AL-label structures.xyz --workdir run
  mpirun -n 4 FHI_AL-label md.traj --select 50 -o labelled.xyz
""",
}


def complete(parser: argparse.ArgumentParser) -> None:
    """Give a command the option that prints its completion, and its help an example."""
    if parser.epilog is None and parser.prog in EXAMPLES:
        parser.epilog = EXAMPLES[parser.prog]
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
    # Not in the help: it is for FHI_AL-completion.
    shtab.add_argument_to(parser, OPTION, help=argparse.SUPPRESS)
    for action in parser._actions:
        if action.type is Path and action.choices is None:
            is_folder = action.metavar in FOLDERS
            action.complete = shtab.DIRECTORY if is_folder else shtab.FILE  # type: ignore[attr-defined]


def asks_for_completion(argv: Sequence[str]) -> bool:
    """Whether a command is to print its completion and nothing else."""
    return any(word.partition("=")[0] == OPTION for word in argv)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``FHI_AL-completion``."""
    parser.epilog = HELP_EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("shell", choices=SHELLS)


def act(arguments: argparse.Namespace) -> Iterator[str]:
    """The completion of every command of this package."""
    scripts = distribution("fhi-al").entry_points.select(group="console_scripts")
    for script in sorted(scripts, key=lambda point: point.name):
        main, text = script.load(), io.StringIO()
        with redirect_stdout(text), suppress(SystemExit):
            main([f"{OPTION}={arguments.shell}"])
        yield text.getvalue()
