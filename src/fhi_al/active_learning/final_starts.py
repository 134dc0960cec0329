"""Where the trajectories of the final test start: at labelled structures that MD comes to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fhi_al.active_learning.excess_energy import ExcessEnergy
from fhi_al.core.label import Label
from fhi_al.core.trajectory import TrajectoryState
from fhi_al.md.point import MDPoint
from fhi_al.md.system import MDSystem

# Cells in A are the same if they differ by less: files of the user's are rounded.
SAME_CELL = 1e-3


def start_point(
    labels: Sequence[Label],
    trajectory: TrajectoryState,
    md_system: MDSystem,
    excess: ExcessEnergy,
    generator: np.random.Generator,
) -> MDPoint:
    """Where a trajectory of the final test starts, with velocities of its temperature.

    At one of the labelled structures that the run's MD may come to, drawn at random: a cell that
    nothing moves is that of a start, not a strained one of the initial dataset, and MD goes on from
    no label that is too high.  If there is none, at the trajectory's starting geometry.

    Parameters
    ----------
    labels : sequence of Label
        Of all systems.
    trajectory : TrajectoryState
    md_system : MDSystem
        What it moves.
    excess : ExcessEnergy
        Which labels are too high.
    generator : numpy.random.Generator
        Of the trajectory.
    """
    possible = [
        label
        for label in labels
        if label.system == trajectory.system
        and _has_cell_of_md(label, md_system)
        and not excess.problem(label, trajectory.md)
    ]
    if not possible:
        return md_system.start(generator, trajectory.start)
    start = possible[generator.integers(len(possible))]
    point = MDPoint(start.positions, np.zeros_like(start.positions), start.cell)
    return md_system.new_velocities(point, generator)


def _has_cell_of_md(label: Label, md_system: MDSystem) -> bool:
    if not md_system.structure.pbc or md_system.needs_stress:
        return True
    cells = [cell for _, cell in md_system.starts] or [md_system.structure.cell]
    return any(float(np.abs(label.cell - cell).max()) < SAME_CELL for cell in cells)
