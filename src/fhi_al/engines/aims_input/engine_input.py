"""The control.in for the engine: the user's, checked, plus what FHI_AL needs and species defaults.

Knows only the few keywords that FHI_AL must add, refuse or check.  Text only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ase.data import atomic_numbers

from fhi_al.engines.aims_input.control import Control, parse_control
from fhi_al.engines.aims_input.errors import AimsInputError
from fhi_al.engines.aims_input.geometry import Geometry
from fhi_al.engines.aims_input.stress import KEYWORD as STRESS
from fhi_al.engines.aims_input.stress import is_true, numerical_stress_problems, stress_problems
from fhi_al.engines.aims_input.text import lines_of, read_text, tokens_of

# Keywords that move atoms or the cell inside the engine: FHI_AL does the moving.
MOVES = re.compile(
    r"^(md_|pimd|relax_geometry$|relax_unit_cell$|restart_relaxations$|use_pimd_wrapper$"
    r"|use_pathint$|plumed|rt_tddft_ehrenfest)"
)
K_POINTS = ("k_grid", "k_grid_density", "k_points_external")
SPECIES_FILE = "{number:02d}_{symbol}_default"


@dataclass(frozen=True)
class EngineInput:
    """A complete control.in, and what was added to the user's and dropped from it, for the log."""

    text: str
    added: tuple[str, ...]
    dropped: tuple[str, ...] = ()


def control_problems(
    control: Control, geometry: Geometry, species_dir: Path | None, stress: bool
) -> list[AimsInputError]:
    """Everything that keeps these inputs from the engine; empty if nothing does.

    Parameters
    ----------
    control : Control
    geometry : Geometry
    species_dir : Path or None
        Folder of FHI-aims' species defaults, for elements without a block in control.in.
    stress : bool
        Is the stress asked for?
    """
    problems = _moves(control)
    problems += _contradictions(control, stress)
    problems += numerical_stress_problems(control)
    if stress:
        problems += stress_problems(control)
    problems += _k_point_problems(control, geometry)
    if stress and not geometry.structure.pbc:
        problems.append(
            AimsInputError(
                geometry.path,
                None,
                "a molecule has no stress",
                "expected three lattice_vector lines",
                "Set GENERAL.compute_stress to false.",
            )
        )
    try:
        species_masses(control, geometry.species, species_dir)
    except AimsInputError as problem:
        problems.append(problem)
    return problems


def engine_input(
    control: Control, geometry: Geometry, species_dir: Path | None, stress: bool
) -> EngineInput:
    """The control.in for the engine: the user's, plus forces, stress, flag and species blocks.

    Raises
    ------
    AimsInputError
        The first of :func:`control_problems`.
    """
    for problem in control_problems(control, geometry, species_dir, stress):
        raise problem
    present = {keyword for _, keyword, _ in control.keywords()}
    settings = [name for name in _needed(stress) if name not in present]
    additions = [f"{name} .true." for name in settings]
    blocks = missing_species(control, geometry.species, species_dir)
    # Before the first species block: FHI-aims ends a block at the first keyword it does not own.
    head = control.species[0].first_line - 1 if control.species else len(control.lines)
    lines = [*control.lines[:head]]
    if additions:
        lines += ["# Added by FHI_AL", *additions]
    lines += control.lines[head:]
    lines += blocks.values()
    message = (*additions, *(f"species block from {path}" for path in blocks))
    return EngineInput("\n".join(lines) + "\n", message)


def missing_species(
    control: Control, species: Sequence[str], species_dir: Path | None
) -> dict[Path, str]:
    """The species files of the elements that control.in has no block for, and their text.

    Raises
    ------
    AimsInputError
        Naming the element and the folder or file that lacks it.
    """
    found: dict[Path, str] = {}
    without = [name for name in dict.fromkeys(species) if name not in control.nuclei]
    if without and species_dir is None:
        raise AimsInputError(
            control.path,
            None,
            f"no species block for {', '.join(without)}",
            "expected one for each species in the file, or a species_dir to take it from",
            "Add it, or set ACTIVE_LEARNING.species_dir to the folder of FHI-aims' species defaults"
            " (such as .../defaults_2020/light).",
        )
    for name in without:
        assert species_dir is not None
        path = _species_file(name, species_dir)
        lines = lines_of(read_text(path), path)
        defined = [
            words[1] for line in lines if (words := tokens_of(line))[1:] and words[0] == "species"
        ]
        if defined != [name]:
            what = f"it defines {', '.join(defined)}" if defined else "it defines no species"
            raise AimsInputError(path, None, what, f"expected one block `species {name}`")
        found[path] = "\n".join(lines).rstrip("\n")
    return found


def species_masses(
    control: Control, species: Sequence[str], species_dir: Path | None
) -> dict[str, float]:
    """Masses in u of the species whose blocks, wherever they come from, say one.

    Raises
    ------
    AimsInputError
        As :func:`missing_species`, and if a mass is none.
    """
    files = missing_species(control, species, species_dir)
    parsed = [parse_control(text, path) for path, text in files.items()]
    blocks = [block for each in (control, *parsed) for block in each.species]
    return {block.name: block.mass for block in blocks if block.mass is not None}


def _species_file(name: str, species_dir: Path) -> Path:
    if not species_dir.is_dir():
        raise AimsInputError(
            species_dir,
            None,
            f"no such folder (needed for {name})",
            "expected FHI-aims' species defaults",
            "Correct ACTIVE_LEARNING.species_dir.",
        )
    wanted = SPECIES_FILE.format(number=atomic_numbers.get(name, 0), symbol=name)
    path = species_dir / wanted
    if not path.is_file():
        raise AimsInputError(
            species_dir,
            None,
            f"no species file for {name}",
            f"expected {wanted} in the folder",
            "species_dir must be one level of accuracy, such as .../defaults_2020/light.",
        )
    return path


def _needed(stress: bool) -> tuple[str, ...]:
    # postprocess_anyway: without it FHI-aims stops after a failed SCF and the flag cannot be read.
    basic = ("compute_forces", "postprocess_anyway")
    return (*basic, STRESS) if stress else basic


def _moves(control: Control) -> list[AimsInputError]:
    return [
        AimsInputError(
            control.path,
            number,
            " ".join([_keyword_as_written(control, number), *values]),
            "expected a single point (FHI_AL moves the atoms itself)",
            "Take the line out.",
        )
        for number, keyword, values in control.keywords()
        if MOVES.match(keyword) and [value.lower() for value in values[:1]] != ["none"]
    ]


def _keyword_as_written(control: Control, number: int) -> str:
    """The keyword on a line, in the user's spelling."""
    return tokens_of(control.lines[number - 1])[0]


def _contradictions(control: Control, stress: bool) -> list[AimsInputError]:
    return [
        AimsInputError(
            control.path,
            number,
            " ".join([keyword, *values]),
            f"expected {keyword} .true., which FHI_AL needs",
            "Take the line out.",
        )
        for number, keyword, values in control.keywords()
        if keyword in _needed(stress) and not is_true(values)
    ]


def _k_point_problems(control: Control, geometry: Geometry) -> list[AimsInputError]:
    given = [(number, key) for number, key, _ in control.keywords() if key in K_POINTS]
    if geometry.structure.pbc and not given:
        return [
            AimsInputError(
                control.path,
                None,
                f"no k_grid, but {geometry.path.name} has lattice vectors",
                "expected k_grid n1 n2 n3",
                "Add it.",
            )
        ]
    if not geometry.structure.pbc:
        return [
            AimsInputError(
                control.path,
                number,
                f"{key}, but {geometry.path.name} has no lattice vectors",
                "expected it for a periodic system only",
                "Take the line out.",
            )
            for number, key in given
        ]
    return []
