"""The reference engine of a new run: which one, and what its files need to say."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fhi_al.app.new_run.commented_yaml import Key, Lines
from fhi_al.app.new_run.electrons import Electrons, EngineChoice, spin_lines
from fhi_al.app.new_run.supercell import LEAST_HEIGHT
from fhi_al.core.errors import InputError
from fhi_al.core.neighbours import shortest_height
from fhi_al.core.structure import Structure
from fhi_al.engines.ase_import import declared_properties
from fhi_al.engines.tblite import is_tblite

ENGINES: tuple[EngineChoice, ...] = ("aims", "tblite", "ase")

# As ASE and asi4py know them.
SPECIES_VARIABLE = "AIMS_SPECIES_DIR"
LIBRARY_VARIABLE = "ASI_LIB_PATH"
LIBRARY = "/path/to/FHIaims/build/libaims.VERSION.scalapack.mpi.so"
SPECIES = "/path/to/FHIaims/species_defaults/defaults_2020/light"

# k points x length of a lattice vector, A; a metal needs about twice as many.
K_LENGTH = 25.0


@dataclass(frozen=True)
class EngineFiles:
    """What the engine needs in the files of a run.

    Parameters
    ----------
    keys : sequence of Key or str
        Of ACTIVE_LEARNING.
    control : str or None
        Text of control.in.
    to_adapt : tuple of str
        Keys that nobody but the user can fill in.
    notes : tuple of str
        What the engine is not made for.
    has_stress : bool
        Whether it has the stress of crystals.
    """

    keys: Lines
    control: str | None = None
    to_adapt: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    has_stress: bool = True


def chosen_engine(given: str | None, environment: Mapping[str, str] = os.environ) -> EngineChoice:
    """The engine that is asked for, or the one that this machine has.

    Raises
    ------
    InputError
        If there is none.
    """
    for name in ENGINES:
        if name == given:
            return name
    if LIBRARY_VARIABLE in environment:
        return "aims"
    if importlib.util.find_spec("tblite") is not None:
        return "tblite"
    return "aims"


def engine_files(
    engine: EngineChoice,
    structure: Structure,
    electrons: Electrons,
    *,
    library: Path | None,
    species: Path | None,
    calculator: str | None,
    environment: Mapping[str, str] = os.environ,
) -> EngineFiles:
    """What the files say of an engine.

    Raises
    ------
    InputError
        If what is needed is missing.
    """
    if engine == "aims":
        return _aims(structure, electrons, library, species, environment)
    if engine == "tblite":
        return _tblite(structure, electrons)
    if calculator is None:
        raise InputError(
            [
                "--engine ase: which calculator? Expected --calculator with its import path, such"
                " as --calculator ase.calculators.emt.EMT."
            ]
        )
    arguments = _xtb_arguments(structure, electrons) if is_tblite(calculator) else {}
    return EngineFiles(
        [
            Key("reference_engine", "ase"),
            Key("reference_calculator", calculator),
            Key("reference_arguments", arguments, "of the calculator, such as charge and spin"),
        ],
        has_stress="stress" in declared_properties(calculator),
    )


def _tblite(structure: Structure, electrons: Electrons) -> EngineFiles:
    keys: list[Key | str] = [
        Key("reference_engine", "tblite", "xTB; --engine aims is FHI-aims"),
        Key(
            "reference_method",
            "GFN1-xTB" if structure.pbc else "GFN2-xTB",
            "periodic at the Gamma point" if structure.pbc else "or GFN1-xTB",
        ),
    ]
    arguments = _xtb_arguments(structure, electrons)
    if arguments:
        keys.append(Key("reference_arguments", arguments))
    return EngineFiles(keys, notes=tuple(_gamma_notes(structure)))


def _xtb_arguments(structure: Structure, electrons: Electrons) -> dict[str, Any]:
    """Charge and multiplicity as tblite's calculator takes them."""
    arguments: dict[str, Any] = {}
    # Without one tblite adds up the initial charges of the atoms.
    if electrons.charge or structure.initial_charges.any():
        arguments["charge"] = electrons.charge
    if electrons.multiplicity is not None:
        arguments["multiplicity"] = electrons.multiplicity
    return arguments


def _gamma_notes(structure: Structure) -> Iterator[str]:
    """What a small cell is worth without k points."""
    lowest = shortest_height(structure.cell) if structure.pbc else math.inf
    if lowest < LEAST_HEIGHT:
        yield (
            f"tblite has the Gamma point only: in a cell of {lowest:.1f} A its crystal may not even"
            f" be stable. Take a supercell (--supercell, {LEAST_HEIGHT:g} A and more), or an engine"
            " with k points"
        )


def _aims(
    structure: Structure,
    electrons: Electrons,
    library: Path | None,
    species: Path | None,
    environment: Mapping[str, str],
) -> EngineFiles:
    found = {
        "aims_lib_path": (library, LIBRARY_VARIABLE, LIBRARY, "FHI-aims as a shared library"),
        "species_dir": (species, SPECIES_VARIABLE, SPECIES, "species defaults"),
    }
    keys: list[Key | str] = [Key("reference_engine", "aims")]
    to_adapt = []
    for name, (given, variable, placeholder, what) in found.items():
        path = given if given is not None else environment.get(variable)
        if path is None:
            to_adapt.append(name)
            keys.append(f"ADAPT: {what}")
            keys.append(Key(name, placeholder))
        else:
            keys.append(Key(name, str(Path(path).expanduser().resolve()), what))
    keys.append("parallel: true overlaps labels, training and MD, with three ranks or more.")
    return EngineFiles(keys, _control(structure, electrons), tuple(to_adapt))


def _control(structure: Structure, electrons: Electrons) -> str:
    lines = [
        "# Written by FHI_AL-init.  Your method goes here: every line reaches FHI-aims.",
        "# FHI_AL adds compute_forces and, from species_dir, the species blocks.",
        "xc                     pbe",
        *(() if structure.pbc else ("# many_body_dispersion_nl  (dispersion)",)),
        "relativistic           atomic_zora scalar",
        f"charge                 {electrons.charge:g}",
        *spin_lines(structure, electrons),
        *_k_grid(structure),
        "",
        "sc_accuracy_rho        1E-5",
        "sc_accuracy_eev        1E-3",
        "sc_accuracy_etot       1E-6",
        "sc_accuracy_forces     1E-4",
        "sc_iter_limit          200",
    ]
    return "\n".join(lines) + "\n"


def _k_grid(structure: Structure) -> list[str]:
    if not structure.pbc:
        return []
    lengths = np.linalg.norm(structure.cell, axis=1)
    counts = [max(1, math.ceil(K_LENGTH / length - 1e-9)) for length in lengths]
    return [
        "# For an insulator; converge it, a metal needs about twice as many.",
        "k_grid                 " + " ".join(map(str, counts)),
    ]
