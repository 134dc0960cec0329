"""Arguments of ``FHI_AL-label`` besides those of all commands."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_label_arguments(parser: argparse.ArgumentParser) -> None:
    """The file, where results go, and what is computed of it."""
    parser.add_argument("file", type=Path, metavar="FILE", help="structures; any file ASE reads")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        help="extended xyz file for them with labels (default: labelled/NAME.xyz in --workdir)",
    )
    parser.add_argument("--stress", action="store_true", help="compute the stress of crystals, too")
    parser.add_argument(
        "--select", type=int, metavar="N", help="only the N structures that differ most"
    )
    parser.add_argument(
        "--model", type=Path, metavar="MODEL", help="MACE model whose descriptors --select compares"
    )
    parser.add_argument(
        "--retry", action="store_true", help="compute again what an earlier launch could not"
    )
