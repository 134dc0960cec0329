"""Candidates among real stored points, by the descriptors of a real MACE model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from mace.calculators import MACECalculator
from models_parts import ELEMENTS, fitted, settings, water_labels
from scipy.spatial.transform import Rotation

from fhi_al.active_learning.candidates import Candidates
from fhi_al.active_learning.options import LabellingOptions
from fhi_al.active_learning.progress import Progress
from fhi_al.active_learning.propagation import Dynamics
from fhi_al.active_learning.trajectories import Trajectories
from fhi_al.core.calibration import Pairs
from fhi_al.core.diversity import fingerprints
from fhi_al.core.improvement import BestError
from fhi_al.core.label import Label
from fhi_al.core.plausible import GeometryLimits
from fhi_al.core.run_state import ActiveLearningState, Frame, PendingLabel, RunState, SweepStage
from fhi_al.core.structure import structure
from fhi_al.core.threshold import MovingAverage
from fhi_al.core.trajectory import Limits, Status, TrajectoryState
from fhi_al.md.conditions import MDConditions
from fhi_al.md.live_trajectory import LiveTrajectory
from fhi_al.md.point import random_stream
from fhi_al.md.system import MDSystem
from fhi_al.models.ensemble import Ensemble
from fhi_al.report.clock import Clock
from fhi_al.report.journal import Journal

pytestmark = pytest.mark.real

STEP = 25
CONDITIONS = MDConditions("Langevin", 300.0, 0.5, 0.01, 100.0, 0.01, 1)
OPTIONS = LabellingOptions(
    sanity_skip=None,
    sanity_action="record",
    rescore=True,
    duplicate_distance=0.1,
    farthest_first=True,
)


@pytest.fixture(scope="module")
def labels() -> list[Label]:
    return water_labels(12)


@pytest.fixture(scope="module")
def made(labels: list[Label]) -> Ensemble:
    return fitted(labels[:10])


@pytest.mark.parametrize("changes", [{}, {"max_L": 1}, {"num_interactions": 1}])
def test_descriptors_are_maces_own(
    labels: list[Label], tmp_path: Path, changes: dict[str, int]
) -> None:
    ensemble = fitted(labels, (11,), **changes)
    found = ensemble.descriptors.of(labels[:3])
    path = ensemble.export(tmp_path, "water")[0]
    calculator = MACECalculator(model_paths=[str(path)], device="cpu", default_dtype="float64")
    for label, features in zip(labels, found, strict=False):
        expected = calculator.get_descriptors(Atoms(label.numbers, label.positions))
        np.testing.assert_allclose(features, expected, atol=1e-12)


def test_turned_and_swapped_molecules_are_the_same(labels: list[Label], made: Ensemble) -> None:
    label = labels[0]
    turned = Rotation.from_euler("xyz", (0.3, 1.1, -2.0)).apply(label.positions) + 3.0
    swapped = turned[[0, 2, 1]]
    structures = [structure(label.numbers, place) for place in (label.positions, swapped)]
    one, other = fingerprints(np.array(made.descriptors.of(structures)), label.numbers)
    np.testing.assert_allclose(one, other, atol=1e-10)


def test_broken_structures_are_refused(labels: list[Label], made: Ensemble) -> None:
    far = structure(labels[0].numbers, labels[0].positions * [[1], [1], [1e4]])
    with pytest.raises(ValueError, match="broken"):
        made.descriptors.of([far])


@dataclass(frozen=True)
class Parts:
    """What chooses candidates, and what it changes."""

    progress: Progress
    journal: Journal
    candidates: Candidates
    preferred: list[Sequence[str]]

    def chosen(self, n_waiting: int = 0) -> list[int]:
        """The trajectories whose candidates are left, in order."""
        self.candidates.choose(n_waiting)
        return [pending.trajectory for pending in self.progress.active.pending]


def parts_of(made: Ensemble, folder: Path, positions: list[Any], **changes: Any) -> Parts:
    """Candidates of trajectories that all wait at these positions."""
    trajectories = tuple(
        TrajectoryState(k, status=Status.WAITING, step=STEP) for k in range(len(positions))
    )
    pending = tuple(
        PendingLabel(
            k,
            Frame(STEP, tuple(map(tuple, place.tolist())), ((0.0, 0.0, 0.0),) * 3),
            0,
            0.5,
            0.1,
            crossed=True,
            is_sanity_check=False,
            forces=((0.0, 0.0, 0.0),) * 3,
        )
        for k, place in enumerate(positions)
    )
    active = ActiveLearningState(
        sweep=3,
        stage=SweepStage.MOVE,
        pending=pending,
        next_round=0,
        epochs=0,
        trajectories=trajectories,
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
        plateaus=(BestError(),) * 2,
        pairs=(Pairs(),),
    )
    system = structure([8, 1, 1], positions[0])
    md_system = MDSystem(system, CONDITIONS, GeometryLimits())
    live = [LiveTrajectory.start(md_system, random_stream(1, k)) for k in range(len(positions))]
    progress = Progress(RunState(active=active), live)
    journal = Journal(folder / "journal.jsonl")
    preferred: list[Sequence[str]] = []
    candidates = Candidates(
        Trajectories(progress, lambda system, md: md_system, Limits(1000, 5, 10)),
        Dynamics((system,), lambda system, md: md_system, made),
        made,
        preferred.append,
        journal,
        Clock(),
        replace(OPTIONS, **changes),
    )
    return Parts(progress, journal, candidates, preferred)


def moved(label: Label, stretch: float) -> Any:
    """The molecule with its first O-H bond longer, in A."""
    positions = label.positions.copy()
    bond = positions[1] - positions[0]
    positions[1] += stretch * bond / np.linalg.norm(bond)
    return positions


def test_the_most_different_comes_first(
    labels: list[Label], made: Ensemble, tmp_path: Path
) -> None:
    places = [moved(labels[0], stretch) for stretch in (0.05, 0.3, 0.15)]
    parts = parts_of(made, tmp_path, places)
    order = parts.chosen()
    assert order == [1, 2, 0]
    assert len(parts.preferred[0]) == 3
    assert parts_of(made, tmp_path, places).chosen() == order
    assert parts_of(made, tmp_path, places, farthest_first=False).chosen() == [0, 1, 2]


def test_those_that_wait_are_put_in_order_too_and_never_let_go(
    labels: list[Label], made: Ensemble, tmp_path: Path
) -> None:
    places = [labels[0].positions, moved(labels[0], 0.6)]
    parts = parts_of(made, tmp_path, places)
    assert parts.chosen(n_waiting=1) == [1, 0]
    assert parts.progress.active.n_duplicates == 0


def test_near_duplicates_of_stored_points_and_of_each_other_go_on(
    labels: list[Label], made: Ensemble, tmp_path: Path
) -> None:
    stored = labels[2].positions
    places = [moved(labels[0], 0.5), stored[[0, 2, 1]] + 1e-5, moved(labels[0], 0.5) + 1e-5]
    parts = parts_of(made, tmp_path, places)
    entries: list[Any] = []
    parts.journal.listen(entries.append)
    assert parts.chosen() == [0]
    active = parts.progress.active
    assert active.n_duplicates == 2
    assert [t.status for t in active.trajectories] == [
        Status.WAITING,
        Status.RUNNING,
        Status.RUNNING,
    ]
    assert [(entry["kind"], entry["trajectory"]) for entry in entries] == [
        ("duplicate", 1),
        ("duplicate", 2),
    ]
    assert parts_of(made, tmp_path, places, duplicate_distance=0.0).chosen() != [0]


def test_points_that_only_the_test_set_holds_do_not_count(
    labels: list[Label], made: Ensemble, tmp_path: Path
) -> None:
    # Not among the ten labels of the ensemble's sets.
    assert parts_of(made, tmp_path, [labels[11].positions]).chosen() == [0]


def test_without_stored_points_nothing_is_let_go(tmp_path: Path, labels: list[Label]) -> None:
    empty = Ensemble(settings(), ELEMENTS, (11, 22))
    places = [labels[0].positions, labels[0].positions + 1e-6]
    assert parts_of(empty, tmp_path, places).chosen() == [0, 1]
