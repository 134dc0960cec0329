"""What ``FHI_AL-init`` is asked, does and says."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fhi_al.app.new_run import examples
from fhi_al.app.new_run.engine_choice import (
    ENGINES,
    EngineChoice,
    EngineFiles,
    chosen_engine,
    electrons_of,
    engine_files,
)
from fhi_al.app.new_run.folder import checked, refuse_to_overwrite, write
from fhi_al.app.new_run.settings_files import GOALS, Plan, active_learning_text, mace_text
from fhi_al.app.new_run.structure import read_start
from fhi_al.core.errors import InputError

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
    parser.add_argument("--charge", type=float, metavar="Q", help="total charge in e")
    parser.add_argument(
        "--multiplicity", type=_multiplicity, metavar="M", help="number of unpaired electrons + 1"
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


@dataclass(frozen=True)
class NewFolder:
    """What is written.

    Parameters
    ----------
    folder : Path
    files : dict
        Name -> content.
    lines : tuple of str
        What is said of it.
    to_adapt : tuple of str
        Keys that the user must fill in.
    runs : bool
        Whether it is the folder of a run.
    """

    folder: Path
    files: dict[str, bytes]
    lines: tuple[str, ...]
    to_adapt: tuple[str, ...] = ()
    runs: bool = True


def act(arguments: argparse.Namespace) -> Iterator[str]:
    """Write the folder; what is said meanwhile.

    Raises
    ------
    InputError
        If something is wrong; nothing was written then.
    """
    new = _of_example(arguments) if arguments.example else _of_structure(arguments)
    refuse_to_overwrite(new.folder, new.files)
    found = None
    if new.runs and not arguments.example:
        found = checked(new.folder, new.files)
        # A model that is not on this machine may be on the one that runs.
        later = (*new.to_adapt, "cannot be fetched", "accept_licence")
        wrong = [each for each in found.problems if not any(key in each for key in later)]
        if wrong:
            raise InputError(wrong)
    write(new.folder, new.files)
    yield f"{new.folder}: {', '.join(new.files)}"
    yield from new.lines
    if found is not None:
        yield from (f"note: {note}" for note in found.notes)
        yield from (f"adapt: {problem}" for problem in found.problems)
    if new.runs:
        workdir = shlex.quote(str(new.folder))
        yield f"check it:  FHI_AL --workdir {workdir} --check"
        yield f"run it:    mpirun -n 2 FHI_AL --workdir {workdir}"


def _of_example(arguments: argparse.Namespace) -> NewFolder:
    clashing = [
        f"--{name.replace('_', '-')}"
        for name in ("geometry", "frame", "engine", "from_foundation", "charge", "multiplicity")
        if getattr(arguments, name) is not None
    ]
    if clashing:
        raise InputError(
            [
                f"--example {arguments.example} with {', '.join(clashing)}: an example is copied as"
                " it is: expected one or the other. Take --example out for a folder of your own."
            ]
        )
    files = examples.copies_of(arguments.example)
    folder = arguments.folder or Path(arguments.example)
    lines = ["README.md says what happens and what to expect"] if "README.md" in files else []
    return NewFolder(folder, files, tuple(lines), runs=examples.runs(files))


def _of_structure(arguments: argparse.Namespace) -> NewFolder:
    if arguments.folder is None:
        raise InputError(["FOLDER: missing: expected the folder to write, such as run."])
    if arguments.geometry is None:
        raise InputError(
            ["--geometry: missing: expected a file with a structure (or --example NAME)."]
        )
    start = read_start(arguments.geometry, arguments.frame)
    engine = chosen_engine(arguments.engine)
    electrons = electrons_of(start, engine, arguments.charge, arguments.multiplicity)
    about_engine = engine_files(
        engine,
        start.structure,
        electrons,
        library=arguments.aims_library,
        species=arguments.species_dir,
        calculator=arguments.calculator,
    )
    plan = Plan(
        arguments.goal,
        start,
        about_engine.keys,
        arguments.temperature,
        _foundation(arguments.from_foundation),
        arguments.device or _device(),
    )
    lines = [
        start.origin,
        _about(engine, arguments.engine),
        *(f"note: {n}" for n in (*electrons.notes, *about_engine.notes)),
    ]
    return NewFolder(
        arguments.folder,
        _files(start.text, about_engine, plan),
        tuple(lines),
        about_engine.to_adapt,
    )


def _files(geometry: str, engine: EngineFiles, plan: Plan) -> dict[str, bytes]:
    texts = {
        "geometry.in": geometry,
        **({} if engine.control is None else {"control.in": engine.control}),
        "active_learning_settings.yaml": active_learning_text(plan),
        "mace_settings.yaml": mace_text(plan),
    }
    return {name: text.encode() for name, text in texts.items()}


def _about(engine: EngineChoice, given: str | None) -> str:
    return f"engine: {engine}" + ("" if given else " (the one found here; --engine takes another)")


def _foundation(given: str | None) -> str | None:
    """A name as it is, a file with its absolute path: the folder is another one."""
    if given is None or not Path(given).expanduser().is_file():
        return given
    return str(Path(given).expanduser().resolve())


def _device() -> str:
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return "cpu"
    # Late: torch takes seconds.
    from fhi_al.models.ensemble import device_problem

    return "cpu" if device_problem("cuda") else "cuda"


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: expected a temperature above 0 K")
    return value


def _multiplicity(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 1 (singlet), 2 (doublet), ...")
    return value
