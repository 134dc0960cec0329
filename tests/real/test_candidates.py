"""Candidates among real stored points, by the descriptors of a real MACE model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from mace.calculators import MACECalculator
from models_parts import ELEMENTS, fitted, settings, water_labels
from scipy.spatial.transform import Rotation

from fhi_al.active_learning.candidates import Candidates
from fhi_al.active_learning.trajectories import Trajectories
from fhi_al.core.calibration import Pairs
from fhi_al.core.diversity import fingerprints
from fhi_al.core.improvement import BestError
from fhi_al.core.label import Label
from fhi_al.core.run_state import ActiveLearningState, Frame, PendingLabel, RunState, SweepStage
from fhi_al.core.structure import structure
from fhi_al.core.threshold import MovingAverage
from fhi_al.core.trajectory import Status, TrajectoryState
from fhi_al.models.ensemble import Ensemble
from fhi_al.report.clock import Clock
from fhi_al.report.journal import Journal
from fhi_al.settings.active_learning import ActiveLearning

pytestmark = pytest.mark.real

STEP = 25


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


def run_of(made: Ensemble, folder: Path, positions: list[Any], **changes: Any) -> Any:
    """A run whose trajectories all wait at these positions; the pool keeps what it is told."""
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
        plateaus=(BestError(),) * 2,
        pairs=(Pairs(),),
    )
    message: list[list[str]] = []
    return SimpleNamespace(
        settings=SimpleNamespace(al=ActiveLearning.model_validate(changes)),
        ensemble=made,
        systems=(structure([8, 1, 1], np.zeros((3, 3))),),
        clock=Clock(),
        journal=Journal(folder / "journal.jsonl"),
        labels=SimpleNamespace(prefer=message.append),
        message=message,
        walkers=[None] * len(positions),
        state=RunState(active=active),
    )


def chosen(run: Any, n_waiting: int = 0) -> list[int]:
    """The trajectories whose candidates are left, in order."""
    trajectories = Trajectories(run)
    Candidates(run, trajectories).choose(n_waiting)
    return [pending.trajectory for pending in trajectories.state.pending]


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
    run = run_of(made, tmp_path, places)
    order = chosen(run)
    assert order == [1, 2, 0]
    assert len(run.message[0]) == 3
    assert chosen(run_of(made, tmp_path, places)) == order
    assert chosen(run_of(made, tmp_path, places, candidate_order="index")) == [0, 1, 2]


def test_those_that_wait_are_put_in_order_too_and_never_let_go(
    labels: list[Label], made: Ensemble, tmp_path: Path
) -> None:
    places = [labels[0].positions, moved(labels[0], 0.6)]
    run = run_of(made, tmp_path, places)
    assert chosen(run, n_waiting=1) == [1, 0]
    assert run.state.active.n_duplicates == 0


def test_near_duplicates_of_stored_points_and_of_each_other_go_on(
    labels: list[Label], made: Ensemble, tmp_path: Path
) -> None:
    stored = labels[2].positions
    places = [moved(labels[0], 0.5), stored[[0, 2, 1]] + 1e-5, moved(labels[0], 0.5) + 1e-5]
    run = run_of(made, tmp_path, places)
    entries: list[Any] = []
    run.journal.listen(entries.append)
    assert chosen(run) == [0]
    active = run.state.active
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
    assert chosen(run_of(made, tmp_path, places, duplicate_distance=0.0)) != [0]


def test_points_that_only_the_test_set_holds_do_not_count(
    labels: list[Label], made: Ensemble, tmp_path: Path
) -> None:
    # Not among the ten labels of the ensemble's sets.
    assert chosen(run_of(made, tmp_path, [labels[11].positions])) == [0]


def test_without_stored_points_nothing_is_let_go(tmp_path: Path, labels: list[Label]) -> None:
    empty = Ensemble(settings(), ELEMENTS, (11, 22))
    places = [labels[0].positions, labels[0].positions + 1e-6]
    assert chosen(run_of(empty, tmp_path, places)) == [0, 1]
