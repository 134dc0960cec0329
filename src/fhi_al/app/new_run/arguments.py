"""The arguments of ``FHI_AL-init``."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from fhi_al.app.new_run import examples
from fhi_al.app.new_run.engine_choice import ENGINES
from fhi_al.app.new_run.settings_files import GOALS

HELP_EXAMPLES = """\
examples:
  FHI_AL-init run --geometry some.xyz --engine tblite
  FHI_AL-init run --geometry some.cif --goal production --temperature 300 600 900
  FHI_AL-init run --geometry some.xyz --from-foundation medium-mpa-0
  FHI_AL-init --example ethanol
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.epilog = HELP_EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        metavar="FOLDER",
        help="folder to write (default with --example: its name)",
    )
    parser.add_argument(
        "--example",
        choices=examples.names(),
        metavar="NAME",
        help="copy a shipped example: " + ", ".join(examples.names()),
    )
    parser.add_argument(
        "--geometry", type=Path, metavar="FILE", help="structure; any file that ASE reads"
    )
    parser.add_argument(
        "--frame", type=int, metavar="N", help="of several frames, from 0 (default: the last one)"
    )
    parser.add_argument(
        "--supercell",
        type=_cells,
        nargs="+",
        metavar="N",
        help="of a crystal: cells along each vector, one number or three (default: with tblite,"
        " which has no k points, as many as it needs; else 1)",
    )
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        help="what computes the labels: FHI-aims, xTB, or any ASE calculator (default: aims where"
        " ASI_LIB_PATH names its library, else tblite if it is installed)",
    )
    parser.add_argument(
        "--goal",
        choices=GOALS,
        default=GOALS[0],
        help="a first look in minutes with xTB, or models to work with (default: quick)",
    )
    parser.add_argument(
        "--from-foundation",
        metavar="NAME",
        help="start from a foundation model: a name such as medium-mpa-0, or a file",
    )
    parser.add_argument(
        "--temperature",
        type=_positive,
        nargs="+",
        default=[300.0],
        metavar="K",
        help="of MD; several are a ladder (default: 300)",
    )
    parser.add_argument("--charge", type=float, metavar="Q", help="total charge in e; not with ase")
    parser.add_argument(
        "--multiplicity",
        type=_multiplicity,
        metavar="M",
        help="unpaired electrons + 1; not with ase",
    )
    _add_engine_arguments(parser)


def _add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--aims-library", type=Path, metavar="FILE", help="with aims (default: $ASI_LIB_PATH)"
    )
    parser.add_argument(
        "--species-dir", type=Path, metavar="DIR", help="with aims (default: $AIMS_SPECIES_DIR)"
    )
    parser.add_argument(
        "--calculator", metavar="PATH", help="with ase, such as ase.calculators.emt.EMT"
    )
    parser.add_argument(
        "--device", metavar="NAME", help="of the models (default: cuda if a GPU is here, else cpu)"
    )


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: expected a temperature above 0 K")
    return value


def _cells(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a number of cells, at least 1")
    return value


def _multiplicity(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 1 (singlet), 2 (doublet), ...")
    return value
