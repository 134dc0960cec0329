"""Label requests for points of trajectories, and these points as plain data of the state."""

from __future__ import annotations

import numpy as np

from fhi_al.core.label import Origin, Phase
from fhi_al.core.run_state import Frame
from fhi_al.core.structure import Array
from fhi_al.labels.validation import LabelRequest
from fhi_al.md.point import MDPoint


def frame_of(point: MDPoint, step: int) -> Frame:
    """Where a trajectory is at an MD step."""
    return Frame(step, _rows(point.positions), _rows(point.cell))


def request_of(frame: Frame, system: int, phase: Phase, trajectory: int) -> LabelRequest:
    """The request for a frame's label."""
    origin = Origin(phase, trajectory, frame.step)
    return LabelRequest(system, np.array(frame.positions), np.array(frame.cell), origin)


def _rows(array: Array) -> tuple[tuple[float, float, float], ...]:
    return tuple((x, y, z) for x, y, z in array.tolist())
