"""What ``FHI_AL-report`` is asked, does and says."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from fhi_al.app.report_page import PAGE, write_report
from fhi_al.report.activity import REPORT_FOLDER

HELP_EXAMPLES = """\
examples:
  FHI_AL-report                     # of the run in this folder, into report/report.html
  FHI_AL-report run -o run.html     # also while it is running, or after it was killed
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.epilog = HELP_EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path(),
        metavar="DIR",
        help="folder of the run (default: the current one)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help=f"the HTML file (default: {REPORT_FOLDER}/{PAGE} in the folder)",
    )


def act(arguments: argparse.Namespace) -> Iterator[str]:
    """Write the report; where it is.

    Raises
    ------
    InputError
        If the folder is no run's.
    OSError
        If the file cannot be written.
    """
    yield str(write_report(arguments.folder, arguments.output))
