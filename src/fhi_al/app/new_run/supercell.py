"""Supercells of the structure that a new run begins with: how large, and made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fhi_al.core.neighbours import heights
from fhi_al.core.structure import Array
from fhi_al.engines.aims_input.geometry import Geometry

# A.  At the Gamma point GFN1-xTB has no minimum at MgO, LiF and Si in cells of 6.3 A and less, and
# one at MgO, LiF, Si and diamond in all from 6.2 A on but Si's (docs/developer/facts.md).
LEAST_HEIGHT = 6.5


def enough_cells(cell: Array) -> tuple[int, int, int]:
    """How often a cell has to be repeated along each vector where there are no k points."""
    first, second, third = (max(1, math.ceil(LEAST_HEIGHT / h - 1e-6)) for h in heights(cell))
    return first, second, third


def repeated(geometry: Geometry, counts: Sequence[int]) -> Geometry:
    """The geometry of a supercell, cell after cell; what is said of an atom holds for its images.

    Parameters
    ----------
    geometry : Geometry
        Of a crystal.
    counts : sequence of 3 int
        Cells along each vector.
    """
    shape, n_cells = geometry.structure, math.prod(counts)
    shifts = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), -1).reshape(-1, 3)
    positions = (shifts @ shape.cell)[:, None] + shape.positions
    return replace(
        geometry,
        structure=replace(
            shape,
            numbers=np.tile(shape.numbers, n_cells),
            positions=positions.reshape(-1, 3),
            cell=shape.cell * np.array(counts)[:, None],
            fixed=np.tile(shape.fixed, (n_cells, 1)),
            initial_moments=np.tile(shape.initial_moments, n_cells),
            initial_charges=np.tile(shape.initial_charges, n_cells),
            masses=None if shape.masses is None else np.tile(shape.masses, n_cells),
        ),
        species=geometry.species * n_cells,
        atom_lines=geometry.atom_lines * n_cells,
    )
