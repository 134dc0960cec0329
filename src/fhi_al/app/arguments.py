"""Arguments of the commands that work in the folder of a run.

Imports nothing that takes long: completion and ``--help`` come before anything else.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fhi_al.app import completion

# Of --progress: whether there are bars; None: where standard output is a terminal.
BARS = {"auto": None, "bars": True, "lines": False}


def bare_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Of a command: its name, what it does (after the colon of `description`), its version."""
    from importlib.metadata import version

    parser = argparse.ArgumentParser(
        prog=name, description=(description or "").partition(": ")[2], allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"{name} {version('fhi-al')}")
    return parser


def parser_of(name: str, description: str | None) -> argparse.ArgumentParser:
    """Of a command that works in the folder of a run, with MPI."""
    parser = bare_parser(name, description)
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
    parser.add_argument(
        "--set",
        dest="given",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="a key of the settings files, over what they say, such as ACTIVE_LEARNING.c_x=0.2;"
        " may be repeated",
    )
    if name != "FHI_AL-atomic-energies":
        parser.add_argument(
            "--progress",
            choices=BARS,
            default="auto",
            help="show progress bars, or lines only (default: bars on a terminal; mpirun hides it:"
            " bars shows them there, too)",
        )
    if name == "FHI_AL-atomic-energies":
        parser.add_argument(
            "--elements",
            nargs="+",
            metavar="SYMBOL",
            help="only these elements, for instance one per launch (default: all)",
        )
    if name == "FHI_AL-label":
        from fhi_al.app.label.arguments import add_label_arguments

        add_label_arguments(parser)
    if name == "FHI_AL-evaluate":
        from fhi_al.app.evaluate.arguments import add_evaluate_arguments

        add_evaluate_arguments(parser)
    completion.complete(parser)
    return parser
