"""FHI-aims inputs of one isolated, spin-polarised atom, from the user's control.in.  Pure text.

Sources: the public FHI-aims tutorial "How to run and converge free atoms" and chapters 3.2 and
3.10 of the manual: ``spin collinear``, one atom without lattice and k grid, Hund's moment as
``initial_moment`` in geometry.in, xc and relativity as in production.  Hund's moments are ASE's
``ground_state_magnetic_moments``.  The small smearing where the user set none is our choice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ase.data import chemical_symbols, ground_state_magnetic_moments

from fhi_al.core.structure import structure
from fhi_al.engines.aims_input.control import Control, parse_control
from fhi_al.engines.aims_input.engine_input import EngineInput, engine_input
from fhi_al.engines.aims_input.geometry import Geometry
from fhi_al.engines.aims_input.text import tokens_of

# What is of the whole system, or of a crystal.
OF_THE_SYSTEM = re.compile(
    r"^(charge|spin"
    # cells and k points
    r"|k_grid.*|k_offset|k_points_external|symmetry_reduced_k_grid.*|rlsy_.*|exx_band_.*"
    r"|external_pressure|compute_analytical_stress|compute_numerical_stress|.*_stress_.*"
    r"|use_dipole_correction|set_vacuum_level|relax_.*"
    # spins and occupations of the production system
    r"|default_initial_moment|fixed_spin_moment|multiplicity|force_occupation_.*|constraint_.*"
    r"|deltascf_.*"
    # fields around it
    r"|homogeneous_field|full_embedding|add_embedding_grids|qmmm.*|esp_constraint"
    r"|(rt_)?tddft_.*"
    # outputs, restarts of another density
    r"|output|cube|dos_kgrid_factors|restart.*|force_single_restartfile|elsi_restart.*)$"
)
# What a single atom cannot have besides.
NOT_OF_AN_ATOM = re.compile(
    r"^(ks_method"
    # dispersion, which vanishes for one atom and needs neighbours or a cell
    r"|many_body_dispersion.*|vdw_correction_.*|vdw_pair_ignore|vdw_convergence_.*|mbd_.*"
    # parallel layouts that KS_method serial cannot have
    r"|use_local_index|load_balancing)$"
)
SPIN = "spin collinear"
REQUIRED = (SPIN, "KS_method serial")
SMALL_SMEARING = "occupation_type gaussian 0.01"


def atomic_geometry(number: int, species: str | None = None) -> Geometry:
    """One atom at the origin, with Hund's moment.

    Parameters
    ----------
    number : int
        Atomic number.
    species : str, optional
        FHI-aims' species name; the element's symbol if not given.
    """
    name = species or chemical_symbols[number]
    return Geometry(
        path=Path(f"geometry.in of the {name} atom"),
        structure=structure(
            [number], [[0.0, 0.0, 0.0]], initial_moments=ground_state_magnetic_moments[[number]]
        ),
        species=(name,),
        atom_lines=((),),
        other_lines=(),
    )


def atomic_input(control: Control, atom: Geometry, species_dir: Path | None) -> EngineInput:
    """The control.in of an isolated atom, made from the user's.

    Dropped: charge, fields, k points and cells, dispersion, outputs, restarts, spin settings and
    other elements' species blocks.  Forced: ``spin collinear`` and ``KS_method serial``.  Added
    where the user set none: a small smearing.

    Raises
    ------
    AimsInputError
        As :func:`fhi_al.engines.aims_input.engine_input.engine_input`.
    """
    reduced, dropped = _reduced(control, atom.species, (OF_THE_SYSTEM, NOT_OF_AN_ATOM), REQUIRED)
    complete = engine_input(reduced, atom, species_dir, stress=False)
    forced = _forced(control, REQUIRED)
    return EngineInput(complete.text, (*forced, *complete.added), dropped)


def control_apart(control: Control, species: Sequence[str]) -> Control:
    """The user's control.in for a molecule of some of a system's atoms, such as a dimer.

    As that of an isolated atom (:func:`atomic_input`), but with the user's dispersion and
    ``KS_method``.

    Parameters
    ----------
    control : Control
    species : sequence of str
        Of the atoms.
    """
    return _reduced(control, species, (OF_THE_SYSTEM,), (SPIN,))[0]


def _forced(control: Control, required: Sequence[str]) -> tuple[str, ...]:
    present = {keyword for _, keyword, _ in control.keywords()}
    return (*required, *(() if "occupation_type" in present else (SMALL_SMEARING,)))


def _reduced(
    control: Control,
    species: Sequence[str],
    left_out: Sequence[re.Pattern[str]],
    required: Sequence[str],
) -> tuple[Control, tuple[str, ...]]:
    """control.in without some keywords and the species of others, and what was dropped."""
    others = [block for block in control.species if block.name not in species]
    lines, dropped = [], []
    for number, line in enumerate(control.lines, start=1):
        keyword = (tokens_of(line) or [""])[0].lower()
        if any(block.first_line <= number <= block.last_line for block in others):
            continue
        if any(pattern.match(keyword) for pattern in left_out):
            dropped.append(line.strip())
        else:
            lines.append(line)
    dropped += [f"species block of {block.name}" for block in others]
    # In front: a keyword after a species block would end that block.
    text = "\n".join([*_forced(control, required), *lines]) + "\n"
    return parse_control(text, control.path), tuple(dropped)
