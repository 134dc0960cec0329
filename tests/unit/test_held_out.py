"""The test set of a run: which points it claims, and the errors on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from label_parts import some_label

from fhi_al.active_learning.held_out import HeldOut
from fhi_al.active_learning.held_out_errors import report_test_errors
from fhi_al.active_learning.options import SplitOptions
from fhi_al.active_learning.progress import Progress
from fhi_al.core.label import Label, Origin
from fhi_al.labels.store import LabelStore
from fhi_al.models.interface import Prediction
from fhi_al.report.journal import Journal


@dataclass(frozen=True)
class Sets:
    """The sets of a member."""

    training: list[Label]
    validation: list[Label]


def held_out(folder: Path, sets: Sets, labels: Sequence[Label], unbiased: bool = True) -> HeldOut:
    store = LabelStore(folder / "labels.jsonl")
    for label in labels:
        store.append(label)
    return HeldOut(Progress(), [sets], store, SplitOptions(0.1, 0.5, unbiased))


def test_every_second_point_is_held_out_once(tmp_path: Path) -> None:
    labels = [some_label(seed) for seed in range(4)]
    test = held_out(tmp_path, Sets([], []), labels)
    assert [test.claims(label, place) for place, label in enumerate(labels)] == [
        False,
        True,
        False,
        True,
    ]
    test.keep(labels[1])
    test.keep(labels[1])
    assert [label.key for label in test.labels()] == [labels[1].key]
    assert test.claims(labels[1], 0)  # the same structure again


def test_what_a_member_has_in_its_sets_is_no_test_point(tmp_path: Path) -> None:
    known, new = some_label(0), some_label(1)
    sets = Sets([], [known])
    test = held_out(tmp_path, sets, [known, new])
    assert not test.claims(known, 1)
    test.keep(new)
    assert [label.key for label in test.unseen()] == [new.key]
    sets.training.append(new)  # by a later crossing
    assert test.unseen() == []


@pytest.mark.parametrize(("unbiased", "n_kept"), [(True, 1), (False, 0)])
def test_sanity_checks_are_kept_unless_others_joined_by_their_error(
    tmp_path: Path, unbiased: bool, n_kept: int
) -> None:
    label = some_label(0)
    test = held_out(tmp_path, Sets([], []), [label], unbiased)
    test.keep_sanity_check(label)
    assert len(test.labels()) == n_kept


class Off:
    """Two members whose forces are off by 0.1 and 0.3 eV/A in each component."""

    def __init__(self, labels: Sequence[Label]) -> None:
        self._labels = labels

    @property
    def as_trained(self) -> Off:
        return self

    def predict(
        self,
        geometries: Sequence[object],
        members: Sequence[int] | None = None,
        *,
        stress: bool = False,
    ) -> list[Prediction]:
        return [
            Prediction(
                np.array([label.energy, label.energy]),
                np.array([label.forces + 0.1, label.forces + 0.3]),
                np.array([np.full((3, 3), 0.02), np.full((3, 3), 0.04)]) if stress else None,
            )
            for label in self._labels
            if any(label is geometry for geometry in geometries)
        ]


def test_errors_are_of_the_mean_and_of_each_member_and_sanity_checks_apart(tmp_path: Path) -> None:
    point, sanity = some_label(0), some_label(1, origin=Origin("sanity", 0, 10))
    journal = Journal(tmp_path / "journal.jsonl")
    mae = report_test_errors("final", [point, sanity], Off([point, sanity]), ("a", "b"), journal)
    assert mae == pytest.approx(0.2, rel=1e-12)
    rows = [(e["points"], e["model"], e["mae_forces"]) for e in journal.entries()]
    assert [row[:2] for row in rows] == [
        (points, model)
        for points in ("held out", "sanity checks")
        for model in ("ensemble_mean", "a", "b")
    ]
    assert [row[2] for row in rows] == pytest.approx([0.2, 0.1, 0.3] * 2, rel=1e-12)


def test_errors_of_the_stress_are_of_the_labels_that_have_one(tmp_path: Path) -> None:
    points = [some_label(0), replace(some_label(1), stress=np.zeros((3, 3)))]
    journal = Journal(tmp_path / "journal.jsonl")
    report_test_errors("final", points, Off(points), ("a", "b"), journal)
    found = [(e["mae_stress"], e["rmse_stress"]) for e in journal.entries()]
    assert found == [pytest.approx((x, x), rel=1e-12) for x in (0.03, 0.02, 0.04)]
    report_test_errors("final", points[:1], Off(points), ("a", "b"), journal)
    assert [e["mae_stress"] for e in journal.entries()][3:] == [None] * 3


def test_without_points_there_is_no_error(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    assert report_test_errors("final", [], Off([]), ("a",), journal) is None
    assert list(journal.entries()) == []
