"""What ``FHI_AL-init`` does and says."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fhi_al.app.new_run import examples, job_script
from fhi_al.app.new_run.electrons import EngineChoice, electrons_of
from fhi_al.app.new_run.engine_choice import EngineFiles, chosen_engine, engine_files
from fhi_al.app.new_run.folder import checked, refuse_to_overwrite, write
from fhi_al.app.new_run.settings_files import Plan, active_learning_text, mace_text
from fhi_al.app.new_run.structure import StartingStructure, read_start
from fhi_al.app.new_run.supercell import enough_cells
from fhi_al.core.errors import InputError
from fhi_al.core.neighbours import shortest_height


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
        if job_script.NAME in new.files and not arguments.example:
            yield f"run it:    cd {workdir}; sbatch {job_script.NAME}"
        else:
            yield f"run it:    mpirun -n 2 FHI_AL --workdir {workdir}"


def _of_example(arguments: argparse.Namespace) -> NewFolder:
    clashing = [
        f"--{name.replace('_', '-')}"
        for name in (
            "geometry",
            "frame",
            "supercell",
            "engine",
            "from_foundation",
            "charge",
            "multiplicity",
        )
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
    engine = chosen_engine(arguments.engine)
    start, cell_notes = _in_cells(
        read_start(arguments.geometry, arguments.frame), arguments.supercell, engine
    )
    electrons = electrons_of(
        start, engine, arguments.charge, arguments.multiplicity, arguments.calculator
    )
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
        start.structure.pbc and about_engine.has_stress,
    )
    lines = [
        start.origin,
        _about(engine, arguments.engine),
        *(f"note: {n}" for n in (*cell_notes, *electrons.notes, *about_engine.notes)),
    ]
    return NewFolder(
        arguments.folder,
        _files(start.text, about_engine, plan),
        tuple(lines),
        about_engine.to_adapt,
    )


def _in_cells(
    start: StartingStructure, given: list[int] | None, engine: EngineChoice
) -> tuple[StartingStructure, list[str]]:
    """The structure in as many cells as are asked for, or needed; what is to be said of that."""
    if not start.structure.pbc:
        if given is not None:
            raise InputError(
                [
                    f"--supercell: {start.origin}: expected a crystal, with a cell in its file."
                    " Leave it out, or give the file a cell."
                ]
            )
        return start, []
    if given is not None:
        if len(given) not in (1, 3):
            words = " ".join(map(str, given))
            raise InputError(
                [f"--supercell {words}: expected one number, or three, such as 2 2 1. Correct it."]
            )
        first, second, third = given if len(given) == 3 else 3 * given
        return start.repeated((first, second, third)), []
    counts = enough_cells(start.structure.cell)
    if math.prod(counts) == 1:
        return start, []
    if engine != "tblite":
        lowest = shortest_height(start.structure.cell)
        return start, [
            f"a cell of {lowest:.1f} A, in which all images of an atom move alike; --supercell 2"
            " gives atoms more freedom"
        ]
    made = start.repeated(counts)
    before, after = (len(each.structure) for each in (start, made))
    return made, [
        f"{' x '.join(map(str, counts))} cells, {after} atoms instead of {before}, for tblite has"
        " the Gamma point only; --supercell says otherwise (1: the cell as it is)"
    ]


def _files(geometry: str, engine: EngineFiles, plan: Plan) -> dict[str, bytes]:
    of_aims = {}
    if engine.control is not None:
        of_aims = {"control.in": engine.control, job_script.NAME: job_script.SCRIPT}
    texts = {
        "geometry.in": geometry,
        **of_aims,
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
