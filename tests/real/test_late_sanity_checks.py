"""Sanity checks whose labels come late: their trajectory has been rolled back meanwhile.

Real GFN2-xTB labels and a real MACE model; two labels of one trajectory come one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from models_parts import fitted, water_labels
from mpi4py import MPI

from fhi_al.active_learning.frames import frame_at
from fhi_al.active_learning.held_out import HeldOut
from fhi_al.active_learning.labelling import Labelling
from fhi_al.active_learning.options import Criterion, LabellingOptions, SplitOptions
from fhi_al.active_learning.points import Points
from fhi_al.active_learning.progress import Progress
from fhi_al.active_learning.propagation import Dynamics
from fhi_al.active_learning.trajectories import Trajectories
from fhi_al.core.calibration import Pairs
from fhi_al.core.improvement import BestError
from fhi_al.core.label import Label
from fhi_al.core.plausible import GeometryLimits, LabelLimits
from fhi_al.core.run_state import ActiveLearningState, PendingLabel, RunState, SweepStage
from fhi_al.core.stopping import StopRules
from fhi_al.core.structure import Array, structure
from fhi_al.core.threshold import MovingAverage, ThresholdRule
from fhi_al.core.trajectory import Limits, Status, TrajectoryState
from fhi_al.core.uncertainty import MEASURES
from fhi_al.engines.tblite import tblite_spec
from fhi_al.labels.crash_trace import CallRecord
from fhi_al.labels.engine_service import EngineService
from fhi_al.labels.serial_queue import SerialLabelQueue
from fhi_al.labels.store import LabelStore
from fhi_al.labels.validation import LabelValidator
from fhi_al.md.conditions import MDConditions
from fhi_al.md.live_trajectory import LiveTrajectory
from fhi_al.md.point import MDPoint, random_stream
from fhi_al.md.system import MDSystem
from fhi_al.report.clock import Clock
from fhi_al.report.journal import Journal

pytestmark = pytest.mark.real

CONDITIONS = MDConditions("Langevin", 300.0, 0.5, 0.01, 100.0, 0.01, 1)
STEPS = (10, 20)


@contextmanager
def untimed() -> Iterator[None]:
    yield


@pytest.fixture(scope="module")
def labels() -> list[Label]:
    return water_labels(12)


def stretched(label: Label, stretch: float) -> Array:
    """The molecule with its first O-H bond longer, in A."""
    positions = label.positions.copy()
    bond = positions[1] - positions[0]
    positions[1] += stretch * bond / np.linalg.norm(bond)
    return positions


@dataclass(frozen=True)
class Parts:
    """A trajectory with two sanity checks, at the second of which it is, and what takes them in."""

    progress: Progress
    labelling: Labelling
    store: LabelStore

    @property
    def trajectory(self) -> TrajectoryState:
        return self.progress.active.trajectories[0]


def parts_of(
    labels: list[Label],
    folder: Path,
    stretches: tuple[float, float],
    action: Literal["record", "add_all"],
    *,
    valid_ratio: float = 0.0,
    max_rollbacks: int = 5,
) -> Parts:
    """Labels more than 0.3 eV per atom above those of ``labels`` are too high for MD."""
    ensemble = fitted(labels[:10])
    places = [stretched(labels[0], stretch) for stretch in stretches]
    pending = tuple(
        PendingLabel(
            0,
            frame_at(step, place, np.zeros((3, 3))),
            0,
            0.05,
            0.1,
            crossed=False,
            is_sanity_check=True,
            forces=((0.0, 0.0, 0.0),) * 3,
        )
        for step, place in zip(STEPS, places, strict=True)
    )
    active = ActiveLearningState(
        sweep=3,
        stage=SweepStage.LABEL,
        pending=pending,
        next_round=0,
        epochs=0,
        trajectories=(TrajectoryState(0, step=STEPS[-1]),),
        uncertainties=(MovingAverage(),),
        true_errors=(MovingAverage(),),
        n_points=0,
        n_validation=0,
        n_test=0,
        n_duplicates=0,
        n_withdrawn=0,
        rescored=0,
        mae_forces=None,
        mae_to_reach=None,
        plateaus=(BestError(),) * len(ensemble),
        pairs=(Pairs(),),
    )
    water = structure(labels[0].numbers, labels[0].positions)
    md_system = MDSystem(water, CONDITIONS, GeometryLimits())
    live = LiveTrajectory.start(md_system, random_stream(1, 0))
    live.point = MDPoint(places[-1], live.point.momenta, live.point.cell)
    progress = Progress(RunState(active=active), [live])
    journal, clock = Journal(folder / "journal.jsonl"), Clock()
    store = LabelStore(folder / "labels.jsonl")
    validator = LabelValidator(
        [water],
        store,
        limits=LabelLimits(100.0, 50.0),
        e0_sums=[None],
        max_failures=3,
        last_output=lambda: "",
    )
    engines = EngineService(MPI.COMM_SELF, [tblite_spec("GFN2-xTB", water)])
    queue = SerialLabelQueue(validator, engines, CallRecord(folder), timed=untimed)
    split = SplitOptions(valid_ratio)
    trajectories = Trajectories(progress, lambda *_: md_system, Limits(1000, 5, max_rollbacks))
    points = Points(
        trajectories,
        ensemble,
        HeldOut(progress, ensemble.members, store, split),
        validator,
        split,
        StopRules(desired_acc=0.001),
    )
    labelling = Labelling(
        trajectories,
        points,
        queue,
        Dynamics((water,), lambda *_: md_system, ensemble),
        journal,
        clock,
        Criterion(MEASURES["max_atomic_sd"], ThresholdRule(0.0, 1)),
        LabellingOptions(None, action, False, 0.0, False, max_excess_energy=0.3),
    )
    return Parts(progress, labelling, store)


def test_the_label_of_a_point_that_a_retired_trajectory_has_left_joins_the_sets(
    labels: list[Label], tmp_path: Path
) -> None:
    parts = parts_of(labels, tmp_path, (0.6, 0.02), "add_all", max_rollbacks=1)
    parts.labelling.take_in(wait=True)
    retired = parts.trajectory
    assert (retired.status, retired.step) == (Status.RETIRED, STEPS[-1])
    parts.labelling.take_in(wait=True)
    assert parts.trajectory == retired
    assert parts.progress.active.n_points == 2


@pytest.mark.parametrize("action", ["record", "add_all"])
@pytest.mark.parametrize("valid_ratio", [0.0, 1.0])
def test_a_trajectory_that_went_back_goes_back_once(
    labels: list[Label], tmp_path: Path, action: Any, valid_ratio: float
) -> None:
    parts = parts_of(labels, tmp_path, (0.6, 0.65), action, valid_ratio=valid_ratio)
    parts.labelling.take_in(wait=True)
    assert parts.trajectory.rollbacks == 1
    point = parts.progress.live[0].point
    parts.labelling.take_in(wait=True)
    assert parts.trajectory.rollbacks == 1
    assert parts.progress.live[0].point is point
    assert parts.store.n_labels == 2 and not parts.progress.active.pending


def test_a_good_label_of_a_point_that_was_left_sets_no_restart_point(
    labels: list[Label], tmp_path: Path
) -> None:
    parts = parts_of(labels, tmp_path, (0.6, 0.02), "add_all", valid_ratio=1.0)
    (live,) = parts.progress.live
    restart_point = live.restart_point
    parts.labelling.take_in(wait=True)
    assert parts.trajectory.status is Status.RUNNING
    parts.labelling.take_in(wait=True)
    assert parts.trajectory.rollbacks_in_row == 1
    assert live.restart_point is restart_point


def test_a_good_label_of_the_point_where_the_trajectory_is_sets_the_restart_point(
    labels: list[Label], tmp_path: Path
) -> None:
    parts = parts_of(labels, tmp_path, (0.01, 0.02), "add_all", valid_ratio=1.0)
    for _ in STEPS:
        parts.labelling.take_in(wait=True)
    (live,) = parts.progress.live
    np.testing.assert_array_equal(live.restart_point.positions, stretched(labels[0], 0.02))


@pytest.mark.parametrize(("last_rollback", "n_rollbacks"), [(9, 1), (10, 0)])
def test_it_goes_back_from_a_point_that_it_came_to_since_it_last_went_back(
    labels: list[Label], tmp_path: Path, last_rollback: int, n_rollbacks: int
) -> None:
    parts = parts_of(labels, tmp_path, (0.6, 0.02), "record")
    went_back = replace(parts.trajectory, last_rollback=last_rollback)
    parts.progress.update_active(trajectories=(went_back,))
    parts.labelling.take_in(wait=True)
    assert parts.trajectory.rollbacks == n_rollbacks
