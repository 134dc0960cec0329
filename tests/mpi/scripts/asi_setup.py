"""What the ASI scripts share: inputs as a user writes them, and how a job reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mpi4py import MPI

from fhi_al.engines.aims_input.control import parse_control
from fhi_al.engines.aims_input.engine_input import engine_input
from fhi_al.engines.aims_input.geometry import parse_geometry
from fhi_al.engines.spec import AsiSpec

WATER = """\
atom 0.0 0.0 0.119 O
atom 0.0 0.763 -0.477 H
atom 0.0 -0.763 -0.477 H
"""
A = 3.567 / 2
DIAMOND = f"""\
lattice_vector {2 * A} 0 0
lattice_vector 0 {2 * A} 0
lattice_vector 0 0 {2 * A}
atom_frac 0 0 0 C
atom_frac 0 0.5 0.5 C
atom_frac 0.5 0 0.5 C
atom_frac 0.5 0.5 0 C
atom_frac 0.25 0.25 0.25 C
atom_frac 0.25 0.75 0.75 C
atom_frac 0.75 0.25 0.75 C
atom_frac 0.75 0.75 0.25 C
"""
# Two atoms, out of their places and the cell out of its shape: there are forces and a shear.
CARBON = f"""\
lattice_vector 0 {A} {1.02 * A}
lattice_vector {A} 0.05 {A}
lattice_vector {0.97 * A} {A} 0
atom 0 0 0 C
atom {0.52 * A} {0.49 * A} {0.5 * A} C
"""
SYSTEMS = {
    "water": (WATER, "xc gfn2\n"),
    "diamond": (DIAMOND, "xc gfn1\nk_grid 1 1 1\n"),
    "carbon": (CARBON, "xc gfn1\nk_grid 1 1 1\n"),
    "oxygen": ("atom 0 0 0 O\n    initial_moment 2\n", "xc gfn2\nspin collinear\n"),
}
SPECIES = "".join(
    f"species {name}\n  nucleus {nucleus}\n" for name, nucleus in (("H", 1), ("C", 6), ("O", 8))
)


def asi_spec(system: str, library: Path, work_dir: Path, more: str = "") -> AsiSpec:
    """A spec made from geometry.in and control.in text; the crystal asks for its stress."""
    geometry_text, keywords = SYSTEMS[system]
    control = parse_control(keywords + more + SPECIES, Path("control.in"))
    geometry = parse_geometry(geometry_text, Path("geometry.in"), control.nuclei)
    stress = geometry.structure.pbc
    text = engine_input(control, geometry, None, stress).text
    return AsiSpec(library, work_dir, text, geometry, stress)


def report(comm: MPI.Intracomm, mine: Any) -> None:
    """Collective over `comm`: rank 0 prints what every rank found, as one line of JSON."""
    everyones = comm.gather(mine, root=0)
    if comm.rank == 0:
        print("RESULT " + json.dumps(everyones), flush=True)
