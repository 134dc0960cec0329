"""Points of the initial dataset that wait for their labels, on a real queue and a real engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_background_queue import AL, EmtWorkers, queue_in

from fhi_al.active_learning.options import DISPLACED, SamplingOptions
from fhi_al.active_learning.progress import Progress
from fhi_al.active_learning.sampled_points import SampledPoints, SamplingMD
from fhi_al.core.assignment import Assignment
from fhi_al.core.displaced import DisplacedRule, DisplacedSystem
from fhi_al.core.displaced_list import DisplacedList
from fhi_al.core.plausible import GeometryLimits
from fhi_al.core.run_state import RunState
from fhi_al.labels.background_queue import BackgroundLabelQueue
from fhi_al.md.evaluation import ForceFunction
from fhi_al.md.system import MDSystem
from fhi_al.report.clock import Clock


def no_md(*_: object) -> MDSystem | ForceFunction:
    raise AssertionError("displaced structures are of no trajectory")


def points_of(state: RunState, queue: BackgroundLabelQueue) -> tuple[SampledPoints, Progress]:
    """Displaced structures of aluminium, and what they change."""
    system = DisplacedSystem(0, [AL], [np.full(len(AL), 0.05)], np.full(len(AL), 1.2))
    rule = DisplacedRule(8, 0, 0, 0.03, (0.9, 1.1), 1)
    progress = Progress(state)
    points = SampledPoints(
        progress,
        SamplingMD((Assignment(0, 0),), {0: 1.0}, no_md, no_md),
        DisplacedList([system], [rule], GeometryLimits(), 5.0, goes_on=True),
        queue,
        Clock(),
        SamplingOptions((DISPLACED,), frozenset(), skip_step=4, max_rollbacks_in_row=10),
        n_members=2,
    )
    return points, progress


def test_surplus_points_that_were_withdrawn_are_withdrawn_again_by_a_resumed_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workers = EmtWorkers(n_workers=1)
    queue = queue_in(tmp_path, workers)
    points, progress = points_of(RunState(), queue)
    points.begin()
    for _ in range(3):
        points.sample()
    before = progress.state  # of the newest snapshot
    assert len(before.sampling.pending) == 3
    points.withdraw()
    assert len(progress.state.sampling.pending) == 1  # the one under way
    workers.release(workers.begun[0])
    points.take_in(wait=True)
    n_withdrawn = 3 - len(progress.state.sampling.points)
    assert n_withdrawn == 2 and not progress.state.sampling.pending

    free = EmtWorkers()  # with an engine for each
    resumed, later = points_of(before, queue_in(tmp_path, free))
    resumed.withdraw()
    resumed.take_in(wait=True)
    assert later.state.sampling == progress.state.sampling
    assert not free.begun and not caplog.messages
