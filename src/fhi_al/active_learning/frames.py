"""Label requests for points of trajectories, and these points as plain data of the state."""

from __future__ import annotations

import numpy as np

from fhi_al.core.label import Origin, Phase
from fhi_al.core.run_state import Frame
from fhi_al.core.structure import Array
from fhi_al.core.trajectory import TrajectoryState
from fhi_al.labels.validation import LabelRequest
from fhi_al.md.point import MDPoint
from fhi_al.md.system import MDSystem


def frame_of(point: MDPoint, step: int) -> Frame:
    """Where a trajectory is at an MD step."""
    return frame_at(step, point.positions, point.cell)


def frame_at(step: int, positions: Array, cell: Array) -> Frame:
    """Positions (n_atoms, 3) and a cell (3, 3) in A as plain data."""
    return Frame(step, _rows(positions), _rows(cell))


def request_of(
    frame: Frame, phase: Phase, trajectory: TrajectoryState, system: MDSystem, source: str = ""
) -> LabelRequest:
    """The request for the label of a trajectory's frame.

    Parameters
    ----------
    frame : Frame
    phase : str
    trajectory : TrajectoryState
    system : MDSystem
        What it moves.
    source : str
        What drives its MD, where that is told.
    """
    md, name = system.conditions.name, system.name
    origin = Origin(phase, trajectory.index, frame.step, md, source, name)
    positions, cell = np.array(frame.positions), np.array(frame.cell)
    return LabelRequest(trajectory.system, positions, cell, origin)


def _rows(array: Array) -> tuple[tuple[float, float, float], ...]:
    return tuple((x, y, z) for x, y, z in array.tolist())
