"""The arguments of ``FHI_AL-evaluate``.  Imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

from fhi_al.app.evaluate.order import (
    ALL,
    CHECKS,
    USUAL_REFERENCE,
    ChecksOrder,
    EvaluateOrder,
    MDOrder,
)

EXAMPLES = """\
examples:
  FHI_AL-evaluate --workdir RUN --on test.xyz          the run's final models, on any labelled file
  FHI_AL-evaluate --workdir RUN --on md --structures 200 --temperature 300 600
                                                       on a new MD of the run's engine
  FHI_AL-evaluate --workdir RUN --on md --checks       and whether their physics is right
  FHI_AL-evaluate --workdir RUN --checks eos dimers    some checks alone, without the engine
  FHI_AL-evaluate a.model b.model --on test.traj       these models, each and together
  FHI_AL-evaluate a.model --on dft.xyz --energy energy_pbe --forces forces_pbe
"""


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes besides what all commands take."""
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "models",
        type=Path,
        nargs="*",
        metavar="MODEL",
        help="MACE model files (default: the final models of the run in --workdir)",
    )
    parser.add_argument(
        "--on",
        metavar="FILE|md",
        help="what to judge them on: a file with energies and forces (any file ASE reads), or"
        " structures of a new MD of the engine of the run in --workdir",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="folder of what is written (default: evaluation in --workdir)",
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument(
        "--worst",
        type=int,
        default=EvaluateOrder.n_worst,
        metavar="N",
        help="write the N structures with the largest force errors (default: %(default)s)",
    )
    for name in ("energy", "forces", "stress"):
        parser.add_argument(
            f"--{name}",
            metavar="NAME",
            help=f"name of the label in the file (default: REF_{name}, else {name})",
        )
    parser.add_argument("--head", metavar="NAME", help="of models that have several heads")
    parser.add_argument(
        "--device", default=EvaluateOrder.device, help="cpu, cuda, ... (default: %(default)s)"
    )
    parser.add_argument(
        "--dtype",
        choices=("float64", "float32"),
        default=EvaluateOrder.dtype,
        help="precision of the models (default: %(default)s)",
    )
    _add_md_arguments(parser.add_argument_group("with --on md"))
    _add_check_arguments(parser.add_argument_group("physical checks"))


def _add_check_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--checks",
        nargs="*",
        choices=(*CHECKS, ALL),
        metavar="NAME",
        help=f"{', '.join(CHECKS)}; without a name all that fit the systems",
    )
    group.add_argument(
        "--md-time",
        type=float,
        default=ChecksOrder.time_ps,
        metavar="PS",
        help="ps of each trajectory on the models (default: %(default)s)",
    )
    group.add_argument(
        "--reference",
        type=int,
        metavar="N",
        help="calculations of the engine that checks may take, at most (default:"
        f" {USUAL_REFERENCE} with --on md, else 0)",
    )


def _add_md_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--temperature",
        type=float,
        nargs="+",
        default=[],
        metavar="K",
        help="a trajectory at each, for each system (default: those of the run's MD)",
    )
    numbers = {
        "structures": (int, MDOrder.n_structures, "N", "structures, of all trajectories together"),
        "spacing": (float, MDOrder.spacing_fs, "FS", "fs from one structure to the next"),
        "equilibration": (float, MDOrder.equilibration_fs, "FS", "fs before the first structure"),
        "seed": (int, MDOrder.seed, "N", "of the MD; not the run's"),
        "most-calculations": (
            *(int, MDOrder.most_calculations, "N"),
            "begin none if more calculations of the engine would be needed",
        ),
    }
    for name, (kind, default, metavar, meaning) in numbers.items():
        group.add_argument(
            f"--{name}",
            type=kind,
            default=default,
            metavar=metavar,
            help=f"{meaning} (default: %(default)s)",
        )


def order_of(arguments: argparse.Namespace) -> EvaluateOrder:
    """What the command line asks for."""
    return EvaluateOrder(
        models=tuple(arguments.models),
        on=arguments.on,
        output=arguments.output,
        energy=arguments.energy,
        forces=arguments.forces,
        stress=arguments.stress,
        head=arguments.head,
        device=arguments.device,
        dtype=arguments.dtype,
        n_worst=arguments.worst,
        md=MDOrder(
            tuple(arguments.temperature),
            arguments.structures,
            arguments.spacing,
            arguments.equilibration,
            arguments.seed,
            arguments.most_calculations,
        ),
        checks=ChecksOrder(
            (ALL,) if arguments.checks == [] else tuple(arguments.checks or ()),
            arguments.md_time,
            arguments.reference,
        ),
        given=tuple(arguments.given),
    )
