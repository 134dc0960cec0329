"""FHI-aims inputs of one isolated, spin-polarised atom, from the user's control.in.  Pure text.

Sources: the public FHI-aims tutorial "How to run and converge free atoms" and chapters 3.2 and
3.10 of the manual: ``spin collinear``, one atom without lattice and k grid, Hund's moment as
``initial_moment`` in geometry.in, xc and relativity as in production.  Hund's moments are ASE's
``ground_state_magnetic_moments``.  The small smearing where the user set none is our choice.
"""

from __future__ import annotations

import re
from pathlib import Path

from ase.data import chemical_symbols, ground_state_magnetic_moments

from fhi_al.core.structure import structure
from fhi_al.engines.aims_input.control import Control, parse_control
from fhi_al.engines.aims_input.engine_input import EngineInput, engine_input
from fhi_al.engines.aims_input.geometry import Geometry
from fhi_al.engines.aims_input.text import tokens_of

DROPPED = re.compile(
    r"^(charge|spin|ks_method"
    # cells and k points
    r"|k_grid.*|k_offset|k_points_external|symmetry_reduced_k_grid.*|rlsy_.*|exx_band_.*"
    r"|external_pressure|compute_analytical_stress|compute_numerical_stress|.*_stress_.*"
    r"|use_dipole_correction|set_vacuum_level|relax_.*"
    # dispersion, which vanishes for one atom and needs neighbours or a cell
    r"|many_body_dispersion.*|vdw_correction_.*|vdw_pair_ignore|vdw_convergence_.*|mbd_.*"
    # spins and occupations of the production system
    r"|default_initial_moment|fixed_spin_moment|multiplicity|force_occupation_.*|constraint_.*"
    r"|deltascf_.*"
    # fields around it
    r"|homogeneous_field|full_embedding|add_embedding_grids|qmmm.*|esp_constraint"
    r"|(rt_)?tddft_.*"
    # outputs, restarts of another density, parallel layouts that KS_method serial cannot have
    r"|output|cube|dos_kgrid_factors|restart.*|force_single_restartfile|elsi_restart.*"
    r"|use_local_index|load_balancing)$"
)
REQUIRED = ("spin collinear", "KS_method serial")
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
    others = [block for block in control.species if block.name not in atom.species]
    lines, dropped = [], []
    for number, line in enumerate(control.lines, start=1):
        keyword = (tokens_of(line) or [""])[0]
        if any(block.first_line <= number <= block.last_line for block in others):
            continue
        if DROPPED.match(keyword.lower()):
            dropped.append(line.strip())
        else:
            lines.append(line)
    dropped += [f"species block of {block.name}" for block in others]
    present = {keyword for _, keyword, _ in control.keywords()}
    forced = [*REQUIRED] if "occupation_type" in present else [*REQUIRED, SMALL_SMEARING]
    # In front: a keyword after a species block would end that block.
    reduced = parse_control("\n".join([*forced, *lines]) + "\n", control.path)
    complete = engine_input(reduced, atom, species_dir, stress=False)
    return EngineInput(complete.text, (*forced, *complete.added), tuple(dropped))
