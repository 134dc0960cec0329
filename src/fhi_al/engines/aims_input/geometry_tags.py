"""What the keywords of geometry.in are about, and which of them the engine must not see.  Pure."""

from __future__ import annotations

import difflib
import re

# What rules moves, not electrons: there is neither MD nor relaxation inside the engine, and a
# trajectory's structures have no symmetry to hold them to.
DROPPED = re.compile(r"^(velocity|constrain_relaxation|hessian_|trust_radius|symmetry_)")
# Sites that are not atoms would stay where they are while the atoms move.
REFUSED = ("empty", "pseudocore")
# Ehrenfest dynamics and the like: the engine would compute another geometry than it was handed.
MOVES = re.compile(r"^(rt_tddft_\w*velocit|md_|relax_|pimd)", re.IGNORECASE)
KNOWN = (
    "atom",
    "atom_frac",
    "lattice_vector",
    "initial_moment",
    "initial_charge",
    "constrain_relaxation",
    "constraint_region",
    "velocity",
    "homogeneous_field",
    "multipole",
    "hessian_block",
    "symmetry_params",
    "isotope",
    "magnetic_response",
    "magnetic_moment",
    "nuclear_spin",
    "verbatim_writeout",
    "calculate_friction",
    "set_vacuum_level",
)
# Lines that need an atom above them.
ABOUT_ATOM = (
    "constraint_region",
    "isotope",
    "magnetic_response",
    "magnetic_moment",
    "nuclear_spin",
)
# Lines about the whole system, wherever they stand (`data` belongs to the multipole above it).
# What is neither these nor known otherwise stays below the atom or lattice vector it stands below.
ABOUT_SYSTEM = (
    "homogeneous_field",
    "multipole",
    "data",
    "set_vacuum_level",
    "verbatim_writeout",
)
# Likeness from which an unknown keyword is taken for a slip of the pen and not for one we lack.
MISSPELT = 0.8


def refusal(keyword: str) -> tuple[str, str] | None:
    """What is wrong with a keyword and what was expected, if the engine must not see it."""
    if keyword in REFUSED:
        return (
            f"{keyword} is not supported",
            "expected atoms only (other sites would not move with them)",
        )
    if MOVES.match(keyword):
        return f"{keyword} moves atoms", "expected a single point (FHI_AL moves the atoms itself)"
    return None


def meant(keyword: str) -> str | None:
    """The keyword that another one is a slip of; None if it is one, or like none."""
    near = difflib.get_close_matches(keyword.lower(), KNOWN, n=1, cutoff=MISSPELT)
    return near[0] if near and near[0] != keyword else None
