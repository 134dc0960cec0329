"""Points of the initial dataset: whose sets each comes to, and how many there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from models_parts import ELEMENTS, label, settings

from fhi_al.active_learning.held_out import HeldOut
from fhi_al.active_learning.options import SplitOptions
from fhi_al.active_learning.progress import Progress
from fhi_al.active_learning.sharing import Sharing
from fhi_al.core.label import Label, Origin, Phase
from fhi_al.labels.store import LabelStore
from fhi_al.models.ensemble import Ensemble

pytestmark = pytest.mark.real


def points(first: int, n_points: int, source: str = "", phase: Phase = "initial") -> list[Label]:
    """Different structures; energies and forces play no part."""
    found = []
    for step in range(first, first + n_points):
        atoms = molecule("H2O")
        atoms.positions[0, 0] += 0.001 * step
        origin = Origin(phase, 0, step, source=source)
        found.append(label(atoms, 0.0, np.zeros((3, 3)), origin=origin))
    return found


class Parts:
    """Members without points, and what shares points out to them."""

    def __init__(self, folder: Path, n_members: int, split: SplitOptions) -> None:
        self.members = Ensemble(settings(), ELEMENTS, tuple(range(n_members))).members
        store = LabelStore(folder / "labels.jsonl")
        self.held_out = HeldOut(Progress(), self.members, store, split)
        self._split = split
        self.sharing = self.of_a_launch()

    def of_a_launch(self) -> Sharing:
        return Sharing(self.members, self.held_out, self._split)

    def share_out(self, labels: list[Label]) -> None:
        for each in labels:
            self.held_out.store.append(each)
        self.sharing.share_out(labels)

    def sets(self) -> list[tuple[list[str], list[str]]]:
        """Of each member's training and validation set."""
        return [
            ([each.key for each in member.training], [each.key for each in member.validation])
            for member in self.members
        ]


SPLITS = {
    "own": SplitOptions(0.1),
    "shared": SplitOptions(0.1, shared=True),
    "bootstrap": SplitOptions(0.1, shared=True, bootstrap=True),
    "bootstrap, test": SplitOptions(0.1, test_ratio=0.2, shared=True, bootstrap=True),
}


@pytest.mark.parametrize("n_members", [2, 4])
@pytest.mark.parametrize("name", SPLITS)
def test_rounds_end_as_one_with_all_points(tmp_path: Path, name: str, n_members: int) -> None:
    """Folds, strata and test points go by how many points there were before."""
    rounds = Parts(tmp_path / "rounds", n_members, SPLITS[name])
    at_once = Parts(tmp_path / "at_once", n_members, SPLITS[name])
    n_before = 0
    for n_points in (20, 20, 40):
        rounds.share_out(points(n_before, n_points))
        n_before += n_points
        assert rounds.sharing.n_points == rounds.of_a_launch().n_points == n_before
    at_once.share_out(points(0, n_before))
    assert rounds.sets() == at_once.sets()
    n_test = round(SPLITS[name].test_ratio * n_before)
    assert len(rounds.held_out.labels()) == n_test


def test_no_point_is_left_to_nobody_by_the_bootstrap(tmp_path: Path) -> None:
    parts = Parts(tmp_path, 2, SPLITS["bootstrap"])
    labels = points(0, 100)
    parts.share_out(labels)
    keys = {key for both in parts.sets() for keys in both for key in keys}
    assert keys == {each.key for each in labels}
    # And still each member lacks about a third of what it does not validate on.
    for training, validation in parts.sets():
        assert 20 <= 100 - len(validation) - len(set(training)) <= 40


def test_labels_of_files_are_no_sampled_points(tmp_path: Path) -> None:
    parts = Parts(tmp_path, 2, SPLITS["shared"])
    for each in points(0, 7, phase="imported"):
        parts.held_out.store.append(each)
        parts.members[0].add_training([each])
    parts.share_out(points(7, 10))
    assert parts.sharing.n_points == 10


@pytest.mark.parametrize("source", ["dimer", "vacancy"])
def test_points_of_other_atoms_count_for_nobodys_validation(tmp_path: Path, source: str) -> None:
    parts = Parts(tmp_path, 4, SPLITS["own"])
    parts.share_out([*points(0, 48, source), *points(48, 40)])
    # The second of each member's ten, as without them.
    assert [len(member.validation) for member in parts.members] == [1] * 4
    assert [len(member.training) for member in parts.members] == [48 + 9] * 4
    assert parts.sharing.n_points == 40
