"""What is said of labels without a stress."""

from __future__ import annotations

from label_parts import some_label, some_rejected

from fhi_al.core.label import Origin
from fhi_al.labels.without_stress import without_stress


def test_nothing_is_said_where_all_labels_have_one() -> None:
    assert without_stress([some_label(1, pbc=True), some_rejected(2)]) is None
    assert without_stress([]) is None


def test_labels_without_one_are_named_and_counted() -> None:
    labels = [some_label(seed, pbc=True, stress=None) for seed in range(7)]
    imported = some_label(9, pbc=True, stress=None, origin=Origin("imported", 0, 3))
    said = without_stress([imported, *labels, some_label(8, pbc=True), some_rejected(2)])
    assert said is not None
    assert said.startswith(
        "8 of 9 labels have no stress (imported frame 3, active learning, trajectory 0, MD step 0,"
    )
    assert "MD step 30, ...): they count with their energies and forces alone" in said
